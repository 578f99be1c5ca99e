//! A model: a graph with the operator sets it uses and its metadata.

use crate::{Attribute, Extra, Graph, Node};

/// A version of an operator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsetImport {
    /// The operator set; empty is `ai.onnx`.
    pub domain: String,
    /// The version.
    pub version: i64,
}

/// A function that the model defines itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// The name, used as `op_type` by nodes.
    pub name: String,
    /// The domain.
    pub domain: String,
    /// The overload.
    pub overload: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Names of the attributes without a default.
    pub attributes: Vec<String>,
    /// Attributes with a default.
    pub default_attributes: Vec<Attribute>,
    /// The body.
    pub nodes: Vec<Node>,
    /// Operator sets of the body.
    pub opset_imports: Vec<OpsetImport>,
    /// Free text.
    pub doc_string: String,
    /// Unknown fields.
    pub extra: Extra,
}

/// A model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The version of the file format.
    pub ir_version: i64,
    /// Operator sets.
    pub opset_imports: Vec<OpsetImport>,
    /// The exporter.
    pub producer_name: String,
    /// Its version.
    pub producer_version: String,
    /// Reverse-DNS name of the model's domain.
    pub domain: String,
    /// The version of the model.
    pub model_version: i64,
    /// Free text.
    pub doc_string: String,
    /// The graph.
    pub graph: Graph,
    /// Key and value pairs, in order.
    pub metadata_props: Vec<(String, String)>,
    /// Functions that nodes may use as operators.
    pub functions: Vec<Function>,
    /// Unknown fields and training information.
    pub extra: Extra,
}

impl Model {
    /// The version of the default operator set; 1 where the file names none.
    pub fn opset(&self) -> i64 {
        let default = |import: &&OpsetImport| import.domain.is_empty() || import.domain == "ai.onnx";
        self.opset_imports
            .iter()
            .find(default)
            .map_or(1, |import| import.version)
    }

    /// The version of an operator set, if it is imported.
    pub fn opset_of(&self, domain: &str) -> Option<i64> {
        if domain.is_empty() || domain == "ai.onnx" {
            return Some(self.opset());
        }
        self.opset_imports
            .iter()
            .find(|import| import.domain == domain)
            .map(|import| import.version)
    }

    /// Sets the version of the default operator set.
    pub fn set_opset(&mut self, version: i64) {
        let default = |import: &&mut OpsetImport| import.domain.is_empty() || import.domain == "ai.onnx";
        match self.opset_imports.iter_mut().find(default) {
            Some(import) => import.version = version,
            None => self.opset_imports.push(OpsetImport {
                domain: String::new(),
                version,
            }),
        }
    }
}

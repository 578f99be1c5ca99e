//! Attributes of nodes.

use crate::{Constant, Extra, Graph};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the ONNX names")]
pub enum AttributeValue {
    Float(f32),
    Int(i64),
    String(Vec<u8>),
    Tensor(Constant),
    Graph(Box<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Vec<u8>>),
    Tensors(Vec<Constant>),
    Graphs(Vec<Graph>),
    /// Sparse tensors and type protos: carried as the encoded fields of the attribute.
    Encoded(Vec<u8>),
    /// A reference to an attribute of the enclosing function.
    Reference(String),
}

impl AttributeValue {
    /// The subgraphs in the value.
    pub(crate) fn graphs_mut(&mut self) -> Vec<&mut Graph> {
        match self {
            Self::Graph(graph) => vec![graph],
            Self::Graphs(graphs) => graphs.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

/// A named attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The name.
    pub name: String,
    /// The value.
    pub value: AttributeValue,
    /// Unknown fields and the doc string.
    pub extra: Extra,
}

impl Attribute {
    /// An attribute without extra fields.
    pub fn new(name: impl Into<String>, value: AttributeValue) -> Self {
        Self {
            name: name.into(),
            value,
            extra: Extra::default(),
        }
    }
}

//! A node: one operator applied to named values.

use crate::{Attribute, AttributeValue, Constant, Extra, Graph};

/// One operator applied to named values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The name; may be empty and need not be unique.
    pub name: String,
    /// The operator, `Conv`.
    pub op_type: String,
    /// The operator set; empty is `ai.onnx`.
    pub domain: String,
    /// Input values; an empty name is an absent optional input.
    pub inputs: Vec<String>,
    /// Output values; an empty name is an unused optional output.
    pub outputs: Vec<String>,
    /// Attributes.
    pub attributes: Vec<Attribute>,
    /// Free text.
    pub doc_string: String,
    /// Unknown fields.
    pub extra: Extra,
}

impl Node {
    /// A node without attributes.
    pub fn new(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            inputs: inputs.iter().map(|&s| s.to_owned()).collect(),
            outputs: outputs.iter().map(|&s| s.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: AttributeValue) -> Self {
        self.attributes.push(Attribute::new(name, value));
        self
    }

    /// The name of the node, or of its first output where it has none: for messages.
    pub fn label(&self) -> &str {
        if self.name.is_empty() {
            self.outputs.first().map_or("", String::as_str)
        } else {
            &self.name
        }
    }

    /// The name of input `idx`, if it is present.
    pub fn input(&self, idx: usize) -> Option<&str> {
        self.inputs
            .get(idx)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The name of output `idx`, if it is present.
    pub fn output(&self, idx: usize) -> Option<&str> {
        self.outputs
            .get(idx)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Every value that the node uses: its inputs, and the values of outer graphs that its subgraphs use.
    pub fn used_values(&self) -> Vec<&str> {
        let inputs = self.inputs.iter().map(String::as_str);
        let captured = self.subgraphs().flat_map(|(_, graph)| graph.captures());
        inputs.filter(|name| !name.is_empty()).chain(captured).collect()
    }

    /// True for an operator of the default set (`ai.onnx`).
    pub fn is_onnx(&self, op_type: &str) -> bool {
        self.op_type == op_type && (self.domain.is_empty() || self.domain == "ai.onnx")
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|a| a.name == name).map(|a| &a.value)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        if let Some(AttributeValue::Int(v)) = self.attribute(name) {
            Some(*v)
        } else {
            None
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        if let Some(AttributeValue::Float(v)) = self.attribute(name) {
            Some(*v)
        } else {
            None
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(AttributeValue::Ints(v)) = self.attribute(name) {
            Some(v)
        } else {
            None
        }
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        if let Some(AttributeValue::Floats(v)) = self.attribute(name) {
            Some(v)
        } else {
            None
        }
    }

    /// A string attribute that is valid UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        if let Some(AttributeValue::String(v)) = self.attribute(name) {
            std::str::from_utf8(v).ok()
        } else {
            None
        }
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&Constant> {
        if let Some(AttributeValue::Tensor(v)) = self.attribute(name) {
            Some(v)
        } else {
            None
        }
    }

    /// The subgraphs of the node, with the attribute names that hold them.
    pub fn subgraphs(&self) -> impl Iterator<Item = (&str, &Graph)> {
        self.attributes.iter().flat_map(|a| {
            let graphs: Vec<&Graph> = match &a.value {
                AttributeValue::Graph(g) => vec![g],
                AttributeValue::Graphs(gs) => gs.iter().collect(),
                _ => Vec::new(),
            };
            graphs.into_iter().map(move |g| (a.name.as_str(), g))
        })
    }
}

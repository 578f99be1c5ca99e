//! A graph: nodes in execution order, inputs, outputs, initializers, declared types.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Constant, Extra, IrError, Node, TensorType, Topology, ValueType, suggestion};

/// A declared value: an input, an output, or a `value_info` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The name.
    pub name: String,
    /// The declared type, if any.
    pub ty: Option<ValueType>,
    /// Free text.
    pub doc_string: String,
    /// Unknown fields.
    pub extra: Extra,
}

impl ValueInfo {
    /// A value of a tensor type.
    pub fn tensor(name: &str, ty: TensorType) -> Self {
        Self {
            name: name.to_owned(),
            ty: Some(ValueType::Tensor(ty)),
            doc_string: String::new(),
            extra: Extra::default(),
        }
    }

    /// A value of unknown type.
    pub fn untyped(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ty: None,
            doc_string: String::new(),
            extra: Extra::default(),
        }
    }

    /// The tensor type, if it is declared.
    pub fn tensor_type(&self) -> Option<&TensorType> {
        if let Some(ValueType::Tensor(ty)) = &self.ty {
            Some(ty)
        } else {
            None
        }
    }
}

/// A stored tensor with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// The name.
    pub name: String,
    /// The tensor.
    pub value: Constant,
}

/// Nodes in execution order, with inputs, outputs and initializers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The name.
    pub name: String,
    /// Nodes, each after the nodes whose outputs it uses.
    pub nodes: Vec<Node>,
    /// Inputs. Old exporters list initializers here too: see [`Graph::runtime_inputs`].
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// Declared types of other values.
    pub value_info: Vec<ValueInfo>,
    /// Stored tensors.
    pub initializers: Vec<Initializer>,
    /// Free text.
    pub doc_string: String,
    /// Unknown fields, sparse initializers and quantization annotations.
    pub extra: Extra,
}

impl Graph {
    /// The initializer of a name.
    pub fn initializer(&self, name: &str) -> Option<&Constant> {
        self.initializers
            .iter()
            .find(|i| i.name == name)
            .map(|i| &i.value)
    }

    /// The inputs that a caller must feed: those without an initializer.
    pub fn runtime_inputs(&self) -> Vec<&ValueInfo> {
        let stored: BTreeSet<&str> = self.initializers.iter().map(|i| i.name.as_str()).collect();
        self.inputs
            .iter()
            .filter(|i| !stored.contains(i.name.as_str()))
            .collect()
    }

    /// The names of the outputs, in order.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| output.name.as_str())
    }

    /// True for the name of an output.
    pub fn is_output(&self, name: &str) -> bool {
        self.output_names().any(|output| output == name)
    }

    /// For a subgraph: the values of outer graphs that it or its own subgraphs use, each once, in order of use.
    pub fn captures(&self) -> Vec<&str> {
        let inputs = self.inputs.iter().map(|i| &i.name);
        let stored = self.initializers.iter().map(|i| &i.name);
        let produced = self.nodes.iter().flat_map(|n| &n.outputs);
        let mut known: BTreeSet<&str> = inputs.chain(stored).chain(produced).map(String::as_str).collect();
        let used = self.nodes.iter().flat_map(|node| {
            let inputs = node.inputs.iter().map(String::as_str);
            inputs.chain(node.subgraphs().flat_map(|(_, graph)| graph.captures()))
        });
        let used = used.chain(self.output_names());
        used.filter(|name| !name.is_empty() && known.insert(name))
            .collect()
    }

    /// Every stored tensor by name: initializers, and the outputs of `Constant` nodes with a `value`.
    pub fn constants(&self) -> BTreeMap<&str, &Constant> {
        let nodes = self.nodes.iter().filter(|n| n.is_onnx("Constant"));
        let from_nodes = nodes.filter_map(|n| Some((n.output(0)?, n.tensor("value")?)));
        from_nodes
            .chain(self.initializers.iter().map(|i| (i.name.as_str(), &i.value)))
            .collect()
    }

    /// Adds or replaces an initializer.
    pub fn set_initializer(&mut self, name: &str, value: impl Into<Constant>) {
        let value = value.into();
        match self.initializers.iter_mut().find(|i| i.name == name) {
            Some(initializer) => initializer.value = value,
            None => self.initializers.push(Initializer {
                name: name.to_owned(),
                value,
            }),
        }
    }

    /// The declared tensor type of an input, output or inner value.
    pub fn declared_type(&self, name: &str) -> Option<&TensorType> {
        let all = self.inputs.iter().chain(&self.outputs).chain(&self.value_info);
        all.filter(|info| info.name == name)
            .find_map(ValueInfo::tensor_type)
    }

    /// Keeps only the part between some values: they become the inputs and outputs.
    ///
    /// An empty list keeps the present inputs or outputs. A cut value becomes an input even when an initializer of
    /// that name exists. Nodes and initializers that are no longer needed are dropped.
    ///
    /// # Errors
    /// A name that is no value of the graph (the nearest one is suggested), or an output that still needs an input
    /// which was cut away.
    pub fn crop(&mut self, inputs: &[String], outputs: &[String]) -> Result<(), IrError> {
        let topology = Topology::new(self)?;
        let known: Vec<&str> = topology.values().collect();
        for name in inputs.iter().chain(outputs) {
            if !known.contains(&name.as_str()) {
                return Err(IrError::UnknownValue {
                    name: name.clone(),
                    help: suggestion(name, known.iter().copied()),
                });
            }
        }
        let info_of = |name: &String| ValueInfo {
            name: name.clone(),
            ty: self.declared_type(name).cloned().map(ValueType::Tensor),
            doc_string: String::new(),
            extra: Extra::default(),
        };
        let new_inputs: Vec<ValueInfo> = inputs.iter().map(info_of).collect();
        let new_outputs: Vec<ValueInfo> = outputs.iter().map(info_of).collect();
        let cut: BTreeSet<&str> = inputs.iter().map(String::as_str).collect();
        let goals: Vec<&str> = if outputs.is_empty() {
            self.output_names().collect()
        } else {
            outputs.iter().map(String::as_str).collect()
        };
        let needed = topology.needed_for(self, &goals, &cut);
        if !inputs.is_empty() {
            let lost = self
                .runtime_inputs()
                .into_iter()
                .find(|i| needed.values.contains(i.name.as_str()) && !cut.contains(i.name.as_str()));
            if let Some(lost) = lost {
                return Err(IrError::CutInput {
                    input: lost.name.clone(),
                    outputs: goals.iter().map(|&g| g.to_owned()).collect(),
                });
            }
        }
        let keep_nodes = needed.nodes;
        let keep_values: BTreeSet<String> = needed.values.iter().map(|&v| v.to_owned()).collect();
        let mut idx = 0;
        self.nodes.retain(|_| {
            idx += 1;
            keep_nodes.contains(&(idx - 1))
        });
        if !inputs.is_empty() {
            self.initializers.retain(|i| !inputs.contains(&i.name));
            self.inputs = new_inputs;
        }
        if !outputs.is_empty() {
            self.outputs = new_outputs;
        }
        self.initializers.retain(|i| keep_values.contains(&i.name));
        let boundary: BTreeSet<&str> = self
            .inputs
            .iter()
            .chain(&self.outputs)
            .map(|i| i.name.as_str())
            .collect();
        self.value_info
            .retain(|i| keep_values.contains(&i.name) && !boundary.contains(i.name.as_str()));
        Ok(())
    }
}

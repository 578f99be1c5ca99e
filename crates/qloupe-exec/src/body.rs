//! Subgraphs of a node, ready to run: the branches of `If`, the bodies of `Loop` and `Scan`.

use qloupe_ir::{Graph, Initializer, Node, TensorType, ValueInfo};
use qloupe_tensor::Tensor;

use crate::{ExecError, OpError, Program, Tapped, Value};

/// A subgraph with its constants packed. Constants of the outer graph are constants of it.
#[derive(Debug)]
pub(crate) struct Body {
    attribute: String,
    program: Program,
    /// Formal inputs.
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Outer values that are computed, each with its place among the values that the node captures.
    captures: Vec<(String, usize)>,
}

/// The values of outer graphs that a node's subgraphs use and that are not `constant`: each once, in order of use.
pub(crate) fn captured<'n>(node: &'n Node, constant: &dyn Fn(&str) -> Option<Tensor>) -> Vec<&'n str> {
    let mut names: Vec<&str> = Vec::new();
    for name in node.subgraphs().flat_map(|(_, graph)| graph.captures()) {
        if constant(name).is_none() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Body {
    /// Compiles the subgraphs of a node; `captured` are the values that it will be given beside its inputs.
    pub(crate) fn all_of(
        node: &Node,
        captured: &[&str],
        constant: &dyn Fn(&str) -> Option<Tensor>,
        opset_of: &dyn Fn(&str) -> i64,
    ) -> Result<Vec<Self>, ExecError> {
        let compile = |(attribute, graph): (&str, &Graph)| {
            let mut body = graph.clone();
            // Declared types of a body are often those of its first iteration only.
            body.inputs.iter_mut().for_each(|input| input.ty = None);
            let inputs = body.inputs.iter().map(|i| i.name.clone()).collect();
            let outputs = body.output_names().map(str::to_owned).collect();
            let mut captures = Vec::new();
            for name in graph.captures() {
                if let Some(idx) = captured.iter().position(|c| *c == name) {
                    body.inputs.push(ValueInfo::untyped(name));
                    captures.push((name.to_owned(), idx));
                } else if let Some(tensor) = constant(name) {
                    body.initializers.push(Initializer {
                        name: name.to_owned(),
                        value: tensor.into(),
                    });
                }
            }
            Ok(Self {
                attribute: attribute.to_owned(),
                program: Program::from_graph(body, opset_of)?,
                inputs,
                outputs,
                captures,
            })
        };
        node.subgraphs().map(compile).collect()
    }
}

/// A subgraph with the outer values that it captures: what an operator runs.
#[derive(Clone, Copy, Debug)]
pub struct BoundBody<'a> {
    body: &'a Body,
    captured: &'a [Option<&'a Value>],
}

impl<'a> BoundBody<'a> {
    pub(crate) fn new(body: &'a Body, captured: &'a [Option<&'a Value>]) -> Self {
        Self { body, captured }
    }

    /// The attribute that holds the subgraph.
    pub fn attribute(&self) -> &'a str {
        &self.body.attribute
    }

    /// The number of formal inputs.
    pub fn n_inputs(&self) -> usize {
        self.body.inputs.len()
    }

    /// The declared type of an output.
    pub fn output_type(&self, idx: usize) -> Option<&'a TensorType> {
        self.body.program.graph().outputs.get(idx)?.tensor_type()
    }

    /// The number of outputs.
    pub fn n_outputs(&self) -> usize {
        self.body.outputs.len()
    }

    /// Runs the subgraph on the values of its formal inputs.
    ///
    /// # Errors
    /// Another number of arguments than of formal inputs; a node that fails.
    pub fn run(&self, arguments: Vec<Value>) -> Result<Vec<Value>, OpError> {
        let body = self.body;
        if arguments.len() != body.inputs.len() {
            return Err(OpError::Unsupported {
                what: format!(
                    "a subgraph with {} inputs for {} values",
                    body.inputs.len(),
                    arguments.len()
                ),
                remedy: String::new(),
            });
        }
        let captures = body.captures.iter().filter_map(|(name, idx)| {
            let value = self.captured.get(*idx).copied().flatten()?;
            Some((name.clone(), value.clone()))
        });
        let given = body
            .inputs
            .iter()
            .cloned()
            .zip(arguments)
            .chain(captures)
            .collect();
        self.run_given(given).map_err(|source| OpError::Body {
            attribute: body.attribute.clone(),
            source: Box::new(source),
        })
    }

    fn run_given(&self, given: Vec<(String, Value)>) -> Result<Vec<Value>, ExecError> {
        let goals: Vec<&str> = self.body.outputs.iter().map(String::as_str).collect();
        let mut walk = self.body.program.walk_tapped(given, &goals, Tapped::None)?;
        while walk.step()?.is_some() {}
        goals
            .iter()
            .map(|name| walk.require_value(name).cloned())
            .collect()
    }
}

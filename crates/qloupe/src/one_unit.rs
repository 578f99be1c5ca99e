//! One unit of a prepared graph as a program of its own, under a plan or in float, with other constants where wanted.

use std::collections::BTreeMap;

use qloupe_exec::{Assignment, Bias, Form, Mode, Program, QuantizedProgram, UnitCompute, UnitSpec};
use qloupe_ir::{Graph, Initializer, Node, ValueInfo};
use qloupe_tensor::{QuantParams, Requantize, Tensor};

use crate::Error;
use crate::prepare::{Network, Prepared};
use crate::units::{UnitGroup, unit_outputs};

/// Constants and scales that are not those of the graph and the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Constants with other elements.
    pub(crate) constants: BTreeMap<String, Tensor>,
    /// Biases of nodes that had none: the first output of the node to the bias.
    pub(crate) new_biases: BTreeMap<String, String>,
    /// Other scales of weights.
    pub(crate) params: BTreeMap<String, QuantParams>,
}

/// A unit to be compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneUnit<'a> {
    pub(crate) network: &'a Network,
    pub(crate) prepared: &'a Prepared,
    pub(crate) unit: &'a UnitGroup,
}

impl OneUnit<'_> {
    /// The unit in float32, from float32 to float32.
    ///
    /// # Errors
    /// A constant that does not fit.
    pub(crate) fn float(self, changes: &Changes) -> Result<QuantizedProgram, Error> {
        let spec = UnitSpec {
            node_idxs: Vec::new(),
            compute: UnitCompute::Float,
            requantize: Requantize::FloatScaleZeroPointAfter,
            float_inputs: Vec::new(),
            weights: Vec::new(),
            bias: None,
        };
        self.compile(spec, BTreeMap::new(), Mode::Integer, changes)
    }

    /// The unit as a plan has it (`spec`), its values in `forms`.
    ///
    /// # Errors
    /// Parameters that do not fit.
    pub(crate) fn under_plan(
        self,
        spec: &UnitSpec,
        forms: BTreeMap<String, Form>,
        mode: Mode,
        changes: &Changes,
    ) -> Result<QuantizedProgram, Error> {
        let mut spec = spec.clone();
        let node = &self.prepared.program.graph().nodes[self.unit.main_idx];
        if let Some(name) = node.output(0).and_then(|output| changes.new_biases.get(output)) {
            spec.bias = Some(Bias::Derived(name.clone()));
        }
        for (name, params) in &mut spec.weights {
            if let Some(other) = changes.params.get(name) {
                params.clone_from(other);
            }
        }
        self.compile(spec, forms, mode, changes)
    }

    fn compile(
        self,
        mut spec: UnitSpec,
        forms: BTreeMap<String, Form>,
        mode: Mode,
        changes: &Changes,
    ) -> Result<QuantizedProgram, Error> {
        let program = &self.prepared.program;
        let mut nodes: Vec<Node> = self
            .unit
            .node_idxs
            .iter()
            .map(|&idx| program.graph().nodes[idx].clone())
            .collect();
        add_biases(&mut nodes, &changes.new_biases);
        let constant = |name: &str| {
            let changed = changes.constants.get(name);
            changed.or_else(|| program.constant(name)).cloned()
        };
        let outputs = unit_outputs(program, &self.prepared.topology, self.unit);
        let graph = graph_of(nodes, &outputs, constant);
        spec.node_idxs = (0..graph.nodes.len()).collect();
        let located = |e| self.network.located(e);
        let small = program_of(self.prepared, graph).map_err(located)?;
        let assignment = Assignment {
            forms,
            units: vec![spec],
        };
        QuantizedProgram::new(&small, &assignment, mode).map_err(located)
    }
}

/// A graph of some nodes: what they read and none of them writes is a constant or an input.
pub(crate) fn graph_of(
    nodes: Vec<Node>,
    outputs: &[&str],
    constant: impl Fn(&str) -> Option<Tensor>,
) -> Graph {
    let written: Vec<&String> = nodes.iter().flat_map(|node| &node.outputs).collect();
    let mut read: Vec<&str> = nodes.iter().flat_map(Node::used_values).collect();
    read.retain(|name| !written.iter().any(|output| output == name));
    read.sort_unstable();
    read.dedup();
    let mut inputs = Vec::new();
    let mut initializers = Vec::new();
    for name in read {
        match constant(name) {
            Some(tensor) => initializers.push(Initializer {
                name: name.to_owned(),
                value: tensor.into(),
            }),
            None => inputs.push(ValueInfo::untyped(name)),
        }
    }
    Graph {
        inputs,
        outputs: outputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
        initializers,
        nodes,
        ..Graph::default()
    }
}

/// The float program of a graph with the opsets of a prepared one.
pub(crate) fn program_of(prepared: &Prepared, graph: Graph) -> Result<Program, qloupe_exec::ExecError> {
    Program::from_graph(graph, &|domain| prepared.model.opset_of(domain).unwrap_or(1))
}

/// Gives nodes that had no bias one.
pub(crate) fn add_biases(nodes: &mut [Node], new_biases: &BTreeMap<String, String>) {
    for node in nodes {
        if let Some(name) = node.output(0).and_then(|output| new_biases.get(output)) {
            node.inputs.truncate(2);
            node.inputs.push(name.clone());
        }
    }
}

//! A graph while it is converted: who reads its values, and under which names they are found.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::{Graph, Node};
use qloupe_tensor::DType;

use super::ONNX_FLOAT;
use super::float_only::Positions;

/// Under which names a value of the original model is found in the new one.
#[derive(Clone)]
pub(super) struct Spelling {
    /// The dtype in the original model, if it is known.
    pub(super) dtype: Option<DType>,
    /// What float16 operators read.
    pub(super) half: String,
    /// What float32 operators read, if it exists.
    pub(super) float: Option<String>,
}

pub(super) type Scope = BTreeMap<String, Spelling>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Network,
    Subgraph,
}

/// Who reads a value.
#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) by_half: bool,
    pub(super) by_float: bool,
    /// A float16 reader that is not a bound of `Clip`.
    pub(super) beyond_bounds: bool,
}

/// A graph while it is converted.
pub(super) struct Part<'a> {
    pub(super) graph: &'a Graph,
    pub(super) role: Role,
    pub(super) uses: BTreeMap<&'a str, Uses>,
    /// Network outputs, which keep their names and types.
    pub(super) outputs: BTreeSet<&'a str>,
    pub(super) scope: Scope,
    pub(super) nodes: Vec<Node>,
}

impl Part<'_> {
    pub(super) fn uses_of(&self, name: &str) -> Uses {
        self.uses.get(name).copied().unwrap_or_default()
    }

    pub(super) fn spell(&mut self, name: &str, dtype: Option<DType>, half: String, float: Option<String>) {
        self.scope
            .insert(name.to_owned(), Spelling { dtype, half, float });
    }

    /// A cast to float32 that only float32 operators read, or that leaves the network, loses nothing when it stays.
    pub(super) fn keeps_float(&self, node: &Node) -> bool {
        let casts = node.is_onnx("Cast") && node.int("to") == Some(ONNX_FLOAT);
        casts
            && node.output(0).is_some_and(|output| {
                let uses = self.uses_of(output);
                self.outputs.contains(output) || (uses.by_float && !uses.by_half)
            })
    }

    /// The dtype of an output that only exists in float32, where the model declares none.
    pub(super) fn dtype_of_float_output(&self, node: &Node) -> Option<DType> {
        match node.op_type.as_str() {
            _ if !node.is_onnx(&node.op_type) => None,
            "CumSum" | "Range" => self.scope.get(node.input(0)?)?.dtype,
            _ => Some(DType::Float32),
        }
    }
}

/// Who reads what, in a graph and in its subgraphs; `float_inputs` says which inputs of a node are float32.
pub(super) fn count_uses<'a>(
    graph: &'a Graph,
    float_inputs: &dyn Fn(&Node) -> Positions,
    uses: &mut BTreeMap<&'a str, Uses>,
) {
    for node in &graph.nodes {
        let float_positions = float_inputs(node);
        for (idx, name) in node.inputs.iter().enumerate() {
            let entry = uses.entry(name).or_default();
            if float_positions.contain(idx) {
                entry.by_float = true;
            } else {
                entry.by_half = true;
                entry.beyond_bounds |= !(node.is_onnx("Clip") && idx > 0);
            }
        }
        for (_, subgraph) in node.subgraphs() {
            count_uses(subgraph, float_inputs, uses);
            for output in &subgraph.outputs {
                let entry = uses.entry(&output.name).or_default();
                entry.by_half = true;
                entry.beyond_bounds = true;
            }
        }
    }
}

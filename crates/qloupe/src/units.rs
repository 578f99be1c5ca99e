//! Grouping: which nodes the target executes as one unit.

mod patterns;
mod product_tail;

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Program;
use qloupe_ir::{Node, Topology};

use crate::targets::{Fusion, Support, Target};

/// What the target executes as one: a node or a fused group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitGroup {
    /// Indices of its nodes in the prepared graph, in order.
    pub node_idxs: Vec<usize>,
    /// Which of them names the unit: the one with the arithmetic.
    pub main_idx: usize,
    /// The constants that are its weights: one of Conv, ConvTranspose, Gemm and MatMul, two of LSTM, GRU and RNN.
    pub weights: Vec<String>,
    /// The constant that is its bias.
    pub bias: Option<String>,
    /// The operator that its nodes spell out, or those behind its product, if they do.
    pub pattern: Option<Fusion>,
}

impl UnitGroup {
    /// The operators of its nodes, `Conv+Relu`.
    pub fn label(&self, program: &Program) -> String {
        let ops: Vec<&str> = self
            .node_idxs
            .iter()
            .map(|&i| program.graph().nodes[i].op_type.as_str())
            .collect();
        ops.join("+")
    }
}

/// True for LSTM, GRU and RNN.
fn is_recurrent(node: &Node) -> bool {
    ["GRU", "LSTM", "RNN"].iter().any(|op| node.is_onnx(op))
}

/// Inputs that a unit takes as float whatever the plan says of them: the states of a recurrent network.
pub(crate) fn float_inputs(unit: &UnitGroup, program: &Program) -> Vec<String> {
    let main = &program.graph().nodes[unit.main_idx];
    let states = [5, 6].into_iter().filter(|_| is_recurrent(main));
    states
        .filter_map(|idx| main.input(idx))
        .map(str::to_owned)
        .collect()
}

/// True for an output that stays float whatever the unit computes with: a state of a recurrent network.
pub(crate) fn is_state(unit: &UnitGroup, program: &Program, output: &str) -> bool {
    let main = &program.graph().nodes[unit.main_idx];
    is_recurrent(main) && main.output(0) != Some(output)
}

/// True for the operators that multiply a value with a weight.
pub(crate) fn is_product(node: &Node) -> bool {
    ["Conv", "ConvTranspose", "Gemm", "MatMul"]
        .iter()
        .any(|op| node.is_onnx(op))
}

/// Groups the nodes that run; constants and nodes on constants alone are no units. `ends` are values that no unit hides.
pub fn group_units(
    program: &Program,
    topology: &Topology,
    target: &Target,
    ends: &BTreeSet<String>,
) -> Vec<UnitGroup> {
    let graph = program.graph();
    let grouping = Grouping {
        program,
        topology,
        target,
        ends,
    };
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    let mut units: Vec<UnitGroup> = Vec::new();
    // Patterns of several branches first: their nodes must not begin a unit of their own.
    let mut patterns = Patterns::new();
    for (idx, node) in graph.nodes.iter().enumerate() {
        let found = grouping.pattern(idx, node);
        if let Some((fusion, idxs)) = found.filter(|(_, idxs)| idxs.iter().all(|i| !taken.contains(i))) {
            taken.extend(&idxs);
            patterns.insert(*idxs.last().unwrap_or(&idx), (fusion, idxs));
        }
    }
    for (idx, node) in graph.nodes.iter().enumerate() {
        if let Some((fusion, idxs)) = patterns.get(&idx) {
            units.push(UnitGroup {
                node_idxs: idxs.clone(),
                main_idx: idx,
                weights: Vec::new(),
                bias: None,
                pattern: Some(*fusion),
            });
            continue;
        }
        let runs = node
            .outputs
            .iter()
            .any(|o| !o.is_empty() && program.constant(o).is_none());
        if taken.contains(&idx) || !runs {
            continue;
        }
        let (weights, mut bias) = grouping.weights_and_bias(node);
        let mut idxs = vec![idx];
        if !weights.is_empty()
            && node.is_onnx("MatMul")
            && let Some((next, constant)) = grouping.bias_add(&idxs, node)
        {
            idxs.push(next);
            bias = Some(constant);
        }
        let (mut pattern, mut is_activated) = (None, false);
        if !weights.is_empty()
            && let Some(tail) = grouping.product_tail(*idxs.last().unwrap_or(&idx), node, &patterns, &taken)
        {
            idxs.extend(&tail.node_idxs);
            (pattern, is_activated) = (tail.pattern, tail.is_activation);
            patterns.retain(|_, (_, idxs)| *idxs != tail.node_idxs);
        }
        let arithmetic = !weights.is_empty() && !is_recurrent(node);
        if (arithmetic && !is_activated) || node.is_onnx("Add") {
            while let Some(next) = grouping
                .activation_after(*idxs.last().unwrap_or(&idx))
                .filter(|n| !taken.contains(n))
            {
                idxs.push(next);
            }
        }
        taken.extend(&idxs);
        units.push(UnitGroup {
            node_idxs: idxs,
            main_idx: idx,
            weights,
            bias,
            pattern,
        });
    }
    // A group runs where its last node stood: every other input is there by then.
    units.sort_by_key(|unit| unit.node_idxs.last().copied());
    units
}

/// Operators that are spelled out, and their nodes, by the last of these.
type Patterns = BTreeMap<usize, (Fusion, Vec<usize>)>;

struct Grouping<'a> {
    program: &'a Program,
    topology: &'a Topology,
    target: &'a Target,
    ends: &'a BTreeSet<String>,
}

impl Grouping<'_> {
    fn constant_name(&self, node: &Node, idx: usize) -> Option<String> {
        node.input(idx)
            .filter(|name| self.program.constant(name).is_some())
            .map(str::to_owned)
    }

    fn weights_and_bias(&self, node: &Node) -> (Vec<String>, Option<String>) {
        let computed = |idx: usize| node.input(idx).is_some() && self.constant_name(node, idx).is_none();
        let constants = |idxs: &[usize]| -> Option<Vec<String>> {
            idxs.iter().map(|&idx| self.constant_name(node, idx)).collect()
        };
        if is_recurrent(node) && computed(0) {
            return (constants(&[1, 2]).unwrap_or_default(), None);
        }
        if node.is_onnx("MatMul") && !computed(0) && computed(1) {
            return (constants(&[0]).unwrap_or_default(), None);
        }
        if !is_product(node) || !computed(0) {
            return (Vec::new(), None);
        }
        let weights = constants(&[1]).unwrap_or_default();
        let has_bias = !node.is_onnx("MatMul") && !weights.is_empty();
        let bias = has_bias.then(|| self.constant_name(node, 2)).flatten();
        (weights, bias)
    }

    /// The only consumer of a node's only output, if a unit may hide the output.
    fn only_consumer(&self, idx: usize) -> Option<usize> {
        let nodes = &self.program.graph().nodes;
        let output = nodes[idx].output(0)?;
        match self.topology.consumers(output) {
            [next] if self.may_hide(output) && nodes[idx].outputs.len() == 1 => Some(*next),
            _ => None,
        }
    }

    /// True for a value that may be gone on the target.
    fn may_hide(&self, name: &str) -> bool {
        !self.ends.contains(name) && !self.program.graph().is_output(name)
    }

    fn bias_add(&self, idxs: &[usize], matmul: &Node) -> Option<(usize, String)> {
        let next = self.only_consumer(*idxs.last()?)?;
        let node = &self.program.graph().nodes[next];
        let constant = (0..2)
            .find_map(|i| self.constant_name(node, i))
            .filter(|_| node.is_onnx("Add"))?;
        let weight = self.program.constant(matmul.input(1)?)?;
        let bias = self.program.constant(&constant)?;
        let columns = *weight.shape().last()?;
        (weight.rank() == 2 && bias.len() == columns && bias.shape().last() == Some(&columns))
            .then_some((next, constant))
    }

    fn activation_after(&self, idx: usize) -> Option<usize> {
        let next = self.only_consumer(idx)?;
        let node = &self.program.graph().nodes[next];
        let produced = self.program.graph().nodes[idx].output(0);
        let bounds_constant = (1..3).all(|i| {
            node.input(i)
                .is_none_or(|name| self.program.constant(name).is_some())
        });
        let fits = (node.is_onnx("Relu") && self.target.fuses(Fusion::Relu))
            || (node.is_onnx("Clip") && self.target.fuses(Fusion::Clip) && bounds_constant);
        (fits && node.input(0) == produced).then_some(next)
    }
}

/// Values that leave a unit.
pub(crate) fn unit_outputs<'p>(program: &'p Program, topology: &Topology, unit: &UnitGroup) -> Vec<&'p str> {
    let inside: BTreeSet<usize> = unit.node_idxs.iter().copied().collect();
    let graph = program.graph();
    let leaves =
        |name: &str| graph.is_output(name) || topology.consumers(name).iter().any(|c| !inside.contains(c));
    unit.node_idxs
        .iter()
        .flat_map(|&idx| &graph.nodes[idx].outputs)
        .map(String::as_str)
        .filter(|name| !name.is_empty() && leaves(name))
        .collect()
}

/// What the target does with a unit: what it does with its main node, and in integers only when it can read them.
pub fn unit_support(unit: &UnitGroup, program: &Program, target: &Target) -> Support {
    let nodes = &program.graph().nodes;
    let main = &nodes[unit.main_idx];
    // A product computes what is spelled out behind it.
    match unit.pattern.filter(|_| unit.weights.is_empty()) {
        Some(Fusion::Gelu) => return target.support("Gelu", ""),
        Some(Fusion::LayerNormalization) => return target.support("LayerNormalization", ""),
        // A fused activation is one table.
        Some(_) if !target.keeps_values_float() => return Support::Int8Exact,
        Some(_) => return target.fallback,
        None => {}
    }
    let support = target.support(&main.op_type, &main.domain);
    match support {
        // An interpolating Resize computes new values.
        Support::Int8Exact
            if main.is_onnx("Resize") && main.string("mode").unwrap_or("nearest") != "nearest" =>
        {
            target.fallback
        }
        // Weights that are computed cannot be packed as integers, but two computed matrices can.
        Support::Int8(_)
            if (main.is_onnx("Conv") || main.is_onnx("ConvTranspose")) && unit.weights.is_empty() =>
        {
            target.fallback
        }
        // Only constant weights can be stored as integers; those of groups are too few.
        Support::WeightOnly
            if unit.weights.is_empty() || main.is_onnx("Conv") && main.int("group").unwrap_or(1) != 1 =>
        {
            target.fallback
        }
        // Recurrent weights that are computed are not known before the run.
        Support::Int8Weights if unit.weights.is_empty() => target.fallback,
        other => other,
    }
}

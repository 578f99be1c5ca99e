//! A graph made ready to run: operators found, constants folded and packed, values numbered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qloupe_ir::{Graph, Model, Topology, suggestion};
use qloupe_tensor::Tensor;

use crate::call::Call;
use crate::{ExecError, Operator, Stored, Walk, ops};

/// A graph made ready to run.
#[derive(Debug)]
pub struct Program {
    graph: Graph,
    pub(crate) steps: Vec<Step>,
    slots: HashMap<String, usize>,
    names: Vec<String>,
    pub(crate) constants: Vec<Option<Stored>>,
    opsets: Vec<(String, i64)>,
}

/// One node that runs.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) node_idx: usize,
    pub(crate) call: Call,
    /// Slots of the inputs; `None` for an absent optional input.
    pub(crate) inputs: Vec<Option<usize>>,
    pub(crate) outputs: Vec<Option<usize>>,
}

impl Program {
    /// Prepares a model.
    ///
    /// # Errors
    /// All unsupported operators at once; a malformed graph; a constant that cannot be decoded or computed.
    pub fn new(model: &Model) -> Result<Self, ExecError> {
        Self::from_graph(model.graph.clone(), &|domain| model.opset_of(domain).unwrap_or(1))
    }

    /// Prepares a graph, given the version of each operator set.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn from_graph(graph: Graph, opset_of: &dyn Fn(&str) -> i64) -> Result<Self, ExecError> {
        let topology = Topology::new(&graph)?;
        let operators = find_operators(&graph)?;
        let opsets = graph
            .nodes
            .iter()
            .map(|n| (n.domain.clone(), opset_of(&n.domain)))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        let names: Vec<String> = topology.values().map(str::to_owned).collect();
        let slots: HashMap<String, usize> = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, name)| (name, i))
            .collect();
        let mut constants: Vec<Option<Stored>> = vec![None; names.len()];
        for initializer in &graph.initializers {
            constants[slots[&initializer.name]] = Some(Stored::plain(initializer.value.tensor()?));
        }
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (node_idx, (node, operator)) in graph.nodes.iter().zip(operators).enumerate() {
            let slot = |name: &String| (!name.is_empty()).then(|| slots[name]);
            let inputs: Vec<Option<usize>> = node.inputs.iter().map(slot).collect();
            let outputs: Vec<Option<usize>> = node.outputs.iter().map(slot).collect();
            let known: Vec<Option<Tensor>> = inputs
                .iter()
                .map(|i| {
                    i.and_then(|i| constants[i].as_ref())
                        .map(|c| c.to_plain().clone())
                })
                .collect();
            let foldable = inputs
                .iter()
                .zip(&known)
                .all(|(slot, constant)| slot.is_none() || constant.is_some());
            let call = Call::new(
                node.clone(),
                operator,
                opset_of(&node.domain),
                if foldable { &[] } else { &known },
            )?;
            if foldable {
                let arguments: Vec<Option<&Stored>> = inputs
                    .iter()
                    .map(|i| i.and_then(|i| constants[i].as_ref()))
                    .collect();
                let results = call.run(&arguments)?;
                for (slot, result) in outputs.iter().zip(results) {
                    if let Some(slot) = slot {
                        constants[*slot] = Some(Stored::plain(result.to_plain().clone()));
                    }
                }
            } else {
                steps.push(Step {
                    node_idx,
                    call,
                    inputs,
                    outputs,
                });
            }
        }
        Ok(Self {
            graph,
            steps,
            slots,
            names,
            constants,
            opsets,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The constant of a name: an initializer, or a node that depends on constants only.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants[*self.slots.get(name)?]
            .as_ref()
            .map(Stored::to_plain)
    }

    /// The names of all values, in order of production.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The version of an operator set that the graph uses.
    pub(crate) fn opset_of(&self, domain: &str) -> i64 {
        self.opsets
            .iter()
            .find(|(d, _)| d == domain)
            .map_or(1, |(_, version)| *version)
    }

    pub(crate) fn n_slots(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn name(&self, slot: usize) -> &str {
        &self.names[slot]
    }

    /// The slot of a value.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`] with the nearest name.
    pub(crate) fn slot(&self, name: &str) -> Result<usize, ExecError> {
        self.slots
            .get(name)
            .copied()
            .ok_or_else(|| ExecError::UnknownValue {
                name: name.to_owned(),
                help: suggestion(name, self.values()),
            })
    }

    /// Begins a run from `given` values (any values of the graph) to `goals`. Only what the goals need is run.
    ///
    /// # Errors
    /// Unknown names; a network input that is needed and not given; a given input that contradicts its declaration.
    pub fn walk<'p>(&'p self, given: Vec<(String, Stored)>, goals: &[&str]) -> Result<Walk<'p>, ExecError> {
        Walk::new(self, given, goals)
    }

    /// Runs the whole graph; the outputs come in the order of the graph.
    ///
    /// # Errors
    /// As [`Program::walk`], or a node that fails.
    pub fn run(&self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, ExecError> {
        let goals: Vec<&str> = self.graph.outputs.iter().map(|o| o.name.as_str()).collect();
        let given = inputs
            .into_iter()
            .map(|(name, tensor)| (name, Stored::plain(tensor)))
            .collect();
        let mut walk = self.walk(given, &goals)?;
        while walk.step()?.is_some() {}
        goals
            .iter()
            .map(|&name| Ok((name.to_owned(), walk.require(name)?.to_plain().clone())))
            .collect()
    }

    /// Values whose content depends on the content of a network input; the others depend on constants and shapes only.
    pub fn data_dependent(&self) -> BTreeSet<String> {
        let mut dependent = vec![false; self.names.len()];
        for input in self.graph.runtime_inputs() {
            dependent[self.slots[&input.name]] = true;
        }
        for step in &self.steps {
            let node = step.call.node();
            let shape_only = node.is_onnx("Shape") || node.is_onnx("Size");
            if !shape_only && step.inputs.iter().flatten().any(|&i| dependent[i]) {
                step.outputs.iter().flatten().for_each(|&o| dependent[o] = true);
            }
        }
        self.names
            .iter()
            .zip(dependent)
            .filter(|(_, d)| *d)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The operator of every node, or all that do not exist here.
fn find_operators(graph: &Graph) -> Result<Vec<&'static dyn Operator>, ExecError> {
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut operators = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        match ops::find(&node.op_type, &node.domain) {
            Some(operator) => operators.push(operator),
            None => {
                let domain = if node.domain.is_empty() {
                    String::new()
                } else {
                    format!("{}.", node.domain)
                };
                missing
                    .entry(format!("{domain}{}", node.op_type))
                    .or_default()
                    .push(node.label());
            }
        }
    }
    if missing.is_empty() {
        return Ok(operators);
    }
    let describe = |(op, nodes): (String, Vec<&str>)| match nodes.as_slice() {
        [node] => format!("{op} (node \"{node}\")"),
        [node, ..] => format!("{op} ({} nodes, the first is \"{node}\")", nodes.len()),
        [] => op,
    };
    Err(ExecError::UnsupportedOperators(
        missing.into_iter().map(describe).collect(),
    ))
}

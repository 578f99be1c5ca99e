//! A graph made ready to run: operators found, constants folded and packed, values numbered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qloupe_ir::{Graph, Model, Topology, suggestion};
use qloupe_tensor::Tensor;

use crate::body::{Body, captured};
use crate::call::Call;
use crate::chain;
use crate::shape_memo::ShapeMemo;
use crate::size_limit::ConstantBytes;
use crate::{ExecError, Operator, Stored, Tapped, Value, Walk, in_pool, ops};

/// A graph made ready to run.
#[derive(Debug)]
pub struct Program {
    graph: Graph,
    pub(crate) steps: Vec<Step>,
    /// The steps in the order they run in, those together that one kernel call may do.
    pub(crate) groups: Vec<Vec<usize>>,
    slots: HashMap<String, usize>,
    names: Vec<String>,
    pub(crate) constants: Vec<Option<Value>>,
    opsets: Vec<(String, i64)>,
    /// For each slot, whether it depends on the content of something that is given to a run.
    dependent: Vec<bool>,
    pub(crate) shape_memo: ShapeMemo,
}

/// One node that runs.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) node_idx: usize,
    pub(crate) call: Call,
    /// Slots of the inputs, `None` for an absent optional input; then those of the values that subgraphs capture.
    pub(crate) inputs: Vec<Option<usize>>,
    pub(crate) outputs: Vec<Option<usize>>,
}

impl Program {
    /// Prepares a model.
    ///
    /// # Errors
    /// All unsupported operators at once; a malformed graph; a constant that cannot be decoded or computed.
    pub fn new(model: &Model) -> Result<Self, ExecError> {
        if model.functions.is_empty() {
            return Self::from_graph(model.graph.clone(), &|domain| model.opset_of(domain).unwrap_or(1));
        }
        let mut inlined = model.clone();
        inlined.inline_functions()?;
        Self::new(&inlined)
    }

    /// Prepares a graph, given the version of each operator set.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn from_graph(graph: Graph, opset_of: &dyn Fn(&str) -> i64) -> Result<Self, ExecError> {
        let topology = Topology::new(&graph)?;
        let operators = find_operators(&graph)?;
        let mut domains = BTreeSet::new();
        collect_domains(&graph, &mut domains);
        let opsets = domains
            .into_iter()
            .map(|domain| (domain.to_owned(), opset_of(domain)))
            .collect();
        let names: Vec<String> = topology.values().map(str::to_owned).collect();
        let slots: HashMap<String, usize> = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, name)| (name, i))
            .collect();
        let mut constants: Vec<Option<Value>> = vec![None; names.len()];
        let mut constant_bytes = ConstantBytes::default();
        for initializer in &graph.initializers {
            let value = &initializer.value;
            let size_bytes = value.dtype().size_bytes(value.len()).unwrap_or(usize::MAX);
            constant_bytes.add(&initializer.name, size_bytes)?;
            constants[slots[&initializer.name]] = Some(value.tensor()?.into());
        }
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (node_idx, (node, operator)) in graph.nodes.iter().zip(operators).enumerate() {
            let slot = |name: &String| (!name.is_empty()).then(|| slots[name]);
            let constant = |name: &str| {
                Some(
                    constants[*slots.get(name)?]
                        .as_ref()?
                        .as_tensor()?
                        .to_plain()
                        .clone(),
                )
            };
            let captured = captured(node, &constant);
            let bodies = Body::all_of(node, &captured, &constant, opset_of)?;
            let captured = captured.iter().map(|&name| Some(slots[name]));
            let inputs: Vec<Option<usize>> = node.inputs.iter().map(slot).chain(captured).collect();
            let outputs: Vec<Option<usize>> = node.outputs.iter().map(slot).collect();
            let known: Vec<Option<Tensor>> = inputs
                .iter()
                .map(|i| Some(constants[(*i)?].as_ref()?.as_tensor()?.to_plain().clone()))
                .collect();
            let foldable = inputs.iter().flatten().all(|&slot| constants[slot].is_some());
            let call = Call::new(
                node.clone(),
                operator,
                opset_of(&node.domain),
                if foldable { &[] } else { &known },
            )?
            .with_bodies(bodies);
            if foldable {
                let arguments: Vec<Option<&Value>> = inputs
                    .iter()
                    .map(|i| i.and_then(|i| constants[i].as_ref()))
                    .collect();
                let results = call.run(&arguments)?;
                // Sequences and optionals are no constants: their node runs.
                let tensors: Option<Vec<&Stored>> = results.iter().map(Value::as_tensor).collect();
                if let Some(tensors) = tensors {
                    for (slot, tensor) in outputs.iter().zip(tensors) {
                        if let Some(slot) = slot {
                            let tensor = tensor.to_plain();
                            if !known.iter().flatten().any(|input| input.shares_elements(tensor)) {
                                constant_bytes.add(&names[*slot], tensor.size_bytes())?;
                            }
                            constants[*slot] = Some(tensor.clone().into());
                        }
                    }
                    continue;
                }
            }
            steps.push(Step {
                node_idx,
                call,
                inputs,
                outputs,
            });
        }
        let groups = chain::group(&steps, names.len());
        let (sources, dependent) = dependence(&steps, &constants);
        let is_independent = |slot: &Option<usize>| slot.is_some_and(|slot| !dependent[slot]);
        let is_shape_only = |step: &Step| step.outputs.iter().all(is_independent);
        let shape_memo = ShapeMemo::new(sources, steps.iter().map(is_shape_only).collect());
        Ok(Self {
            graph,
            steps,
            groups,
            slots,
            names,
            constants,
            opsets,
            dependent,
            shape_memo,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The constant of a name: an initializer, or a node that depends on constants only.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        let value = self.constants[*self.slots.get(name)?].as_ref()?;
        value.as_tensor().map(Stored::to_plain)
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

    /// The name of the value at a place in [`Program::values`].
    pub fn name(&self, slot: usize) -> &str {
        &self.names[slot]
    }

    /// The slot of a value: its place in [`Program::values`].
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`] with the nearest name.
    pub fn slot(&self, name: &str) -> Result<usize, ExecError> {
        self.slots
            .get(name)
            .copied()
            .ok_or_else(|| ExecError::UnknownValue {
                name: name.to_owned(),
                help: suggestion(name, self.values()),
            })
    }

    /// Begins a run from `given` values (any values of the graph) to `goals`. Only what the goals need is run; every
    /// value on the way comes out of [`Walk::step`].
    ///
    /// # Errors
    /// Unknown names; a network input that is needed and not given; a given input that contradicts its declaration.
    pub fn walk<'p, V: Into<Value>>(
        &'p self,
        given: Vec<(String, V)>,
        goals: &[&str],
    ) -> Result<Walk<'p>, ExecError> {
        self.walk_tapped(given, goals, Tapped::All)
    }

    /// [`Program::walk`] of which only `tapped` values need to come out. Others may never be in memory.
    ///
    /// # Errors
    /// As [`Program::walk`].
    pub fn walk_tapped<'p, V: Into<Value>>(
        &'p self,
        given: Vec<(String, V)>,
        goals: &[&str],
        tapped: Tapped<'p>,
    ) -> Result<Walk<'p>, ExecError> {
        let given = given.into_iter().map(|(name, value)| (name, value.into()));
        Walk::new(self, given.collect(), goals, tapped)
    }

    /// Runs the whole graph; the outputs come in the order of the graph.
    ///
    /// # Errors
    /// As [`Program::walk`], or a node that fails.
    pub fn run(&self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, ExecError> {
        let goals: Vec<&str> = self.graph.output_names().collect();
        in_pool(|| {
            let mut walk = self.walk_tapped(inputs, &goals, Tapped::None)?;
            while walk.step()?.is_some() {}
            goals
                .iter()
                .map(|&name| Ok((name.to_owned(), walk.require(name)?.to_plain().clone())))
                .collect()
        })
    }

    /// Values whose content depends on the content of a network input; the others depend on constants and shapes only.
    pub fn data_dependent(&self) -> BTreeSet<String> {
        let names = self.names.iter().zip(&self.dependent);
        names
            .filter(|(_, dependent)| **dependent)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// True for a value whose content depends on the content of something that is given to a run.
    pub(crate) fn is_data_dependent(&self, slot: usize) -> bool {
        self.dependent[slot]
    }
}

/// The slots that nothing computes, and for each slot whether its content depends on theirs.
fn dependence(steps: &[Step], constants: &[Option<Value>]) -> (Vec<usize>, Vec<bool>) {
    let mut dependent: Vec<bool> = constants.iter().map(Option::is_none).collect();
    for &slot in steps.iter().flat_map(|step| step.outputs.iter().flatten()) {
        dependent[slot] = false;
    }
    let sources = (0..dependent.len()).filter(|&slot| dependent[slot]).collect();
    for step in steps {
        let node = step.call.node();
        let reads_shape = node.is_onnx("Shape") || node.is_onnx("Size");
        if !reads_shape && step.inputs.iter().flatten().any(|&slot| dependent[slot]) {
            step.outputs
                .iter()
                .flatten()
                .for_each(|&slot| dependent[slot] = true);
        }
    }
    (sources, dependent)
}

fn collect_domains<'g>(graph: &'g Graph, domains: &mut BTreeSet<&'g str>) {
    for node in &graph.nodes {
        domains.insert(&node.domain);
        node.subgraphs()
            .for_each(|(_, subgraph)| collect_domains(subgraph, domains));
    }
}

/// The operator of every node, or all that do not exist here, those in subgraphs too.
fn find_operators(graph: &Graph) -> Result<Vec<&'static dyn Operator>, ExecError> {
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    collect_missing(graph, &mut missing);
    if missing.is_empty() {
        let operators = graph
            .nodes
            .iter()
            .filter_map(|n| ops::find(&n.op_type, &n.domain));
        return Ok(operators.collect());
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

fn collect_missing<'g>(graph: &'g Graph, missing: &mut BTreeMap<String, Vec<&'g str>>) {
    for node in &graph.nodes {
        if ops::find(&node.op_type, &node.domain).is_none() {
            let domain = if node.domain.is_empty() {
                String::new()
            } else {
                format!("{}.", node.domain)
            };
            let name = format!("{domain}{}", node.op_type);
            missing.entry(name).or_default().push(node.label());
        }
        node.subgraphs()
            .for_each(|(_, subgraph)| collect_missing(subgraph, missing));
    }
}

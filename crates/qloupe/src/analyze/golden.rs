//! The golden run beside a run under test: what it computes, how long it keeps a value, and values in float16.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use qloupe_exec::{Fact, Stepped, Stored, Unit, Value, Walk};
use qloupe_ir::Topology;
use qloupe_tensor::{DType, Element, Tensor};

use super::rows::Rows;
use crate::Error;
use crate::prepare::{Network, Prepared};
use crate::shapes;

/// The golden run, kept just ahead of the run under test.
pub(super) struct Golden<'p> {
    pub(super) walk: Walk<'p>,
    pub(super) values: HashMap<String, Value>,
    pub(super) uses: HashMap<String, usize>,
    pub(super) seconds: f64,
}

impl Golden<'_> {
    pub(super) fn keep(&mut self, name: &str, value: &Value) {
        if self.uses.get(name).is_some_and(|&uses| uses > 0) {
            self.values.insert(name.to_owned(), value.clone());
        }
    }

    /// Runs until the inputs and outputs of a unit are there, or to the end.
    pub(super) fn advance(&mut self, unit: &Unit, rows: &mut Rows) -> Result<(), qloupe_exec::ExecError> {
        let start = Instant::now();
        let missing = |values: &HashMap<String, Value>| {
            unit.inputs()
                .iter()
                .chain(unit.outputs())
                .any(|name| !values.contains_key(name))
        };
        while missing(&self.values) {
            let Some(stepped) = self.walk.step()? else { break };
            observe(&stepped, rows);
            for (name, value) in &stepped.outputs {
                self.keep(name, value);
            }
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Frees what no later unit needs.
    pub(super) fn release(&mut self, unit: &Unit) {
        for name in unit.inputs().iter().chain(unit.outputs()) {
            if let Some(uses) = self.uses.get_mut(name) {
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    self.values.remove(name);
                }
            }
        }
    }

    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<(), qloupe_exec::ExecError> {
        while let Some(stepped) = self.walk.step()? {
            observe(&stepped, rows);
        }
        Ok(())
    }
}

fn observe(stepped: &Stepped<'_>, rows: &mut Rows) {
    for (name, value) in &stepped.outputs {
        if let Some(tensor) = value.as_tensor() {
            rows.observe_golden(name, tensor.dtype(), || tensor.shape());
        }
    }
    for (name, shape) in &stepped.passed {
        rows.observe_golden(name, DType::Float32, || shape.clone());
    }
}

/// A float16 value as float32; others as they are.
pub(super) fn float32(stored: Stored) -> Stored {
    let numbers = stored.physical().as_slice::<half::f16>();
    let numbers = numbers.map(|values| values.iter().map(|v| v.to_f32()).collect());
    match numbers {
        Some(numbers) => with_numbers::<f32>(&stored, numbers),
        None => stored,
    }
}

/// Other numbers in the shape and the order of a value.
pub(super) fn with_numbers<T: Element>(like: &Stored, numbers: Vec<T>) -> Stored {
    let tensor = Tensor::new(like.physical().shape(), numbers).expect("invariant: as many numbers");
    Stored::of_call(tensor, like.layout())
}

/// Values that a model which another tool quantized computes in float16.
pub(super) fn half_values(prepared: &Prepared) -> BTreeSet<String> {
    if prepared.stored.is_none() {
        return BTreeSet::new();
    }
    let inferred = shapes::infer(&prepared.model, &BTreeMap::new());
    let facts = inferred.map(|inference| inference.facts).unwrap_or_default();
    let is_half = |fact: &Fact| fact.dtype == Some(DType::Float16);
    facts
        .into_iter()
        .filter(|(_, fact)| is_half(fact))
        .map(|(name, _)| name)
        .collect()
}

/// The network outputs, and the values of a network that `uses` names although no output depends on them.
pub(super) fn goals(network: &Network, uses: &HashMap<String, usize>) -> Result<Vec<String>, Error> {
    let graph = &network.model.graph;
    let topology = Topology::new(graph).map_err(|source| Error::Graph {
        file: network.file.clone(),
        source,
    })?;
    let mut goals: Vec<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
    let needed = topology.needed_for(graph, &goals, &BTreeSet::new()).values;
    goals.extend(
        topology
            .values()
            .filter(|name| uses.contains_key(*name) && !needed.contains(name)),
    );
    Ok(goals.into_iter().map(str::to_owned).collect())
}

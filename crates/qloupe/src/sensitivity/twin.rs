//! A unit in float as the user's model has it: with the stored weights, whatever passes or another tool made of them.

use std::collections::BTreeSet;

use qloupe_exec::{ExecError, Program, Stored, Value};

use super::source::Context;
use crate::Error;
use crate::one_unit::{Changes, OneUnit, graph_of, program_of};
use crate::prepare::Prepared;
use crate::units::{UnitGroup, unit_outputs};
use crate::value_map::ValueMap;

/// Nodes that passes fold into a unit, at most, beside those it has.
const MAX_FOLDED: usize = 8;

/// A unit in float, from values of the graph under test to values of the same.
#[derive(Debug)]
pub(super) struct FloatTwin {
    program: Program,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
}

/// A value of the graph under test and of the user's.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    source: String,
    map: Option<ValueMap>,
}

impl Place {
    fn new(prepared: &Prepared, name: &str) -> Self {
        let map = prepared.maps.get(name).cloned();
        Self {
            name: name.to_owned(),
            source: source_of(prepared, name).to_owned(),
            map,
        }
    }

    /// The value in the program of the twin itself.
    fn unmapped(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            source: name.to_owned(),
            map: None,
        }
    }
}

/// The value of the user's graph that a value under test stands for.
pub(super) fn source_of<'a>(prepared: &'a Prepared, name: &'a str) -> &'a str {
    prepared.maps.get(name).map_or(name, |map| map.source.as_str())
}

impl FloatTwin {
    /// The nodes of the user's graph between the values that a unit reads and writes; where there are none that do just
    /// this, the nodes of the unit.
    pub(super) fn new(context: &Context<'_>, unit: &UnitGroup) -> Result<Self, Error> {
        let Context {
            network, prepared, ..
        } = *context;
        let one = OneUnit {
            network,
            prepared,
            unit,
        };
        let of_unit = one.float(&Changes::default())?;
        let read: Vec<String> = of_unit.units()[0].inputs().to_vec();
        let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
        if let Some(twin) = Self::original(context, unit, (&read, &outputs))? {
            return Ok(twin);
        }
        let nodes = unit.node_idxs.iter();
        let nodes = nodes
            .map(|&idx| prepared.program.graph().nodes[idx].clone())
            .collect();
        let graph = graph_of(nodes, &outputs, |name| prepared.program.constant(name).cloned());
        Ok(Self {
            program: program_of(prepared, graph).map_err(|e| network.located(e))?,
            inputs: read.iter().map(|name| Place::unmapped(name)).collect(),
            outputs: outputs.iter().map(|name| Place::unmapped(name)).collect(),
        })
    }

    fn original(
        context: &Context<'_>,
        unit: &UnitGroup,
        (read, written): (&[String], &[&str]),
    ) -> Result<Option<Self>, Error> {
        let Context {
            network,
            prepared,
            topology,
            ..
        } = *context;
        let graph = &network.model.graph;
        let inputs: Vec<Place> = read.iter().map(|name| Place::new(prepared, name)).collect();
        let outputs: Vec<Place> = written.iter().map(|name| Place::new(prepared, name)).collect();
        let is_known = |place: &Place| {
            topology.producer(&place.source).is_some()
                || graph.inputs.iter().any(|input| input.name == place.source)
        };
        let is_same = |input: &Place| outputs.iter().any(|output| output.source == input.source);
        if !inputs.iter().chain(&outputs).all(is_known) || inputs.iter().any(is_same) {
            return Ok(None);
        }
        let given: BTreeSet<&str> = inputs.iter().map(|place| place.source.as_str()).collect();
        let goals: Vec<&str> = outputs.iter().map(|place| place.source.as_str()).collect();
        let needed = topology.needed_for(graph, &goals, &given);
        let nodes = || needed.nodes.iter().map(|&idx| &graph.nodes[idx]);
        let computed = nodes().filter(|node| {
            let mut outputs = node.outputs.iter().filter(|name| !name.is_empty());
            outputs.any(|name| network.program.constant(name).is_none())
        });
        let computed: Vec<_> = computed.cloned().collect();
        let reads_more = graph
            .runtime_inputs()
            .iter()
            .any(|input| !given.contains(input.name.as_str()) && needed.values.contains(input.name.as_str()));
        if reads_more || computed.is_empty() || computed.len() > unit.node_idxs.len() + MAX_FOLDED {
            return Ok(None);
        }
        let graph = graph_of(computed, &goals, |name| network.program.constant(name).cloned());
        let opset_of = |domain: &str| network.model.opset_of(domain).unwrap_or(1);
        let program = Program::from_graph(graph, &opset_of).map_err(|e| network.located(e))?;
        Ok(Some(Self {
            program,
            inputs,
            outputs,
        }))
    }

    /// The outputs, for values of the graph under test as real numbers.
    pub(super) fn run(
        &self,
        mut value: impl FnMut(&str) -> Result<Value, ExecError>,
    ) -> Result<Vec<(String, Value)>, ExecError> {
        let mut given: Vec<(String, Value)> = Vec::new();
        let reads = |source: &str| {
            self.program
                .graph()
                .inputs
                .iter()
                .any(|input| input.name == source)
        };
        for place in self.inputs.iter().filter(|place| reads(&place.source)) {
            if given.iter().all(|(name, _)| *name != place.source) {
                given.push((place.source.clone(), original(place, value(&place.name)?)));
            }
        }
        let goals: Vec<&str> = self.outputs.iter().map(|place| place.source.as_str()).collect();
        let mut walk = self.program.walk(given, &goals)?;
        while walk.step()?.is_some() {}
        let output = |place: &Place| {
            let stored = walk.require(&place.source)?.clone();
            let rewritten = place.map.as_ref().map(|map| map.to_rewritten(&stored));
            Ok((place.name.clone(), rewritten.unwrap_or(stored).into()))
        };
        self.outputs.iter().map(output).collect()
    }
}

fn original(place: &Place, value: Value) -> Value {
    match (&place.map, value) {
        (Some(map), Value::Tensor(stored)) => map.to_original(&stored).into(),
        (_, value) => value,
    }
}

/// A value of the user's graph in the units of the graph under test.
pub(super) fn to_rewritten(prepared: &Prepared, name: &str, value: Value) -> Value {
    match (prepared.maps.get(name), value) {
        (Some(map), Value::Tensor(stored)) => map.to_rewritten(&stored).into(),
        (_, value) => value,
    }
}

/// A value under test in the units of the user's graph.
pub(super) fn to_original(prepared: &Prepared, name: &str, value: &Stored) -> Stored {
    let map = prepared.maps.get(name);
    map.map_or_else(|| value.clone(), |map| map.to_original(value))
}

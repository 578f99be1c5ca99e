//! Where a value of the model is found in a plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::prepare::Prepared;
use crate::units::unit_outputs;

/// The values of a plan, and for the values that a unit hides its output.
///
/// What folding a batch norm removed has no place: a converter that still has it did not fold, and its numbers are others.
pub(crate) struct Places {
    names: Vec<String>,
    planned: BTreeSet<String>,
    outputs: BTreeMap<String, String>,
}

impl Places {
    /// The places of a prepared graph.
    pub(crate) fn new(prepared: &Prepared) -> Self {
        let names = prepared.value_names();
        let planned: BTreeSet<String> = names.iter().cloned().collect();
        let mut outputs = BTreeMap::new();
        for unit in &prepared.units {
            let [output] = unit_outputs(&prepared.program, &prepared.topology, unit)[..] else {
                continue;
            };
            let inside = unit
                .node_idxs
                .iter()
                .flat_map(|&idx| &prepared.program.graph().nodes[idx].outputs);
            for name in inside.filter(|name| !planned.contains(*name)) {
                outputs.insert(name.clone(), output.to_owned());
            }
        }
        Self {
            names,
            planned,
            outputs,
        }
    }

    /// True for a value of the plan.
    pub(crate) fn is_planned(&self, name: &str) -> bool {
        self.planned.contains(name)
    }

    /// The output of the unit that hides a value.
    pub(crate) fn output_of(&self, name: &str) -> Option<&str> {
        let output = self.outputs.get(name)?;
        self.planned.contains(output).then_some(output)
    }

    /// The values of the plan, in execution order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

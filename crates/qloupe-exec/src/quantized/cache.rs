//! Units that were compiled before: their weights are packed once for each scheme, whatever plans they are part of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Form, Mode, Unit, UnitSpec};
use crate::{ExecError, Program};

/// The compiled units of one float program, shared among its plans. It keeps every variant that was compiled.
#[derive(Debug, Default)]
pub struct UnitCache {
    /// By the nodes of the unit.
    units: Mutex<BTreeMap<Vec<usize>, Vec<Known>>>,
}

/// A unit with all that it was compiled from.
#[derive(Debug)]
struct Known {
    spec: UnitSpec,
    /// The forms of the values of its nodes that have one.
    forms: Vec<Form>,
    mode: Mode,
    unit: Arc<Unit>,
}

impl UnitCache {
    /// The unit of a specification, compiled if it is new.
    pub(super) fn unit(
        &self,
        program: &Program,
        spec: &UnitSpec,
        forms: &BTreeMap<String, Form>,
        mode: Mode,
        compile: impl FnOnce() -> Result<Unit, ExecError>,
    ) -> Result<Arc<Unit>, ExecError> {
        let nodes = spec.node_idxs.iter().map(|&idx| &program.graph().nodes[idx]);
        let values = nodes.flat_map(|node| {
            [
                node.used_values(),
                node.outputs.iter().map(String::as_str).collect(),
            ]
            .concat()
        });
        let forms: Vec<Form> = values
            .map(|name| forms.get(name).cloned().unwrap_or(Form::FLOAT))
            .collect();
        let is_known = |known: &&Known| known.mode == mode && known.forms == forms && known.spec == *spec;
        let found = {
            let units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
            let variants = units.get(&spec.node_idxs).into_iter().flatten();
            variants
                .into_iter()
                .find(is_known)
                .map(|known| Arc::clone(&known.unit))
        };
        if let Some(unit) = found {
            return Ok(unit);
        }
        let unit = Arc::new(compile()?);
        let known = Known {
            spec: spec.clone(),
            forms,
            mode,
            unit: Arc::clone(&unit),
        };
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.entry(spec.node_idxs.clone()).or_default().push(known);
        Ok(unit)
    }
}

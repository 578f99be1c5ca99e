//! The entries of a plan as dicts.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use qloupe::plan::{Precision, QuantPlan, precision_word};
use qloupe::prepare::Prepared;
use qloupe_exec::Form;

/// The values: `name`, `unit`, `precision`, `shared_with`, `reason`, `scale`, `zero_point`, `range`, `chosen`.
pub(super) fn values<'py>(py: Python<'py>, plan: &QuantPlan) -> PyResult<Bound<'py, PyList>> {
    let forms = plan.forms();
    let list = PyList::empty(py);
    for value in &plan.values {
        let entry = PyDict::new(py);
        let form = forms.get(&value.name);
        let (shared_with, reason) = match &value.precision {
            Precision::Quantized(_) | Precision::WeightOnly(_) => (None, None),
            Precision::SharedWith(other) => (Some(other), None),
            Precision::Fp16 { reason } | Precision::Float { reason } => (None, Some(reason)),
        };
        let params = form.and_then(Form::params);
        entry.set_item("name", &value.name)?;
        entry.set_item("unit", &value.unit)?;
        entry.set_item("precision", precision_word(value, form))?;
        entry.set_item("shared_with", shared_with)?;
        entry.set_item("reason", reason)?;
        entry.set_item(
            "scale",
            params.map(|params| params.scale().to_vec()).unwrap_or_default(),
        )?;
        entry.set_item(
            "zero_point",
            params
                .map(|params| params.zero_point().to_vec())
                .unwrap_or_default(),
        )?;
        entry.set_item("range", value.range.map(|range| (range.min, range.max)))?;
        entry.set_item("chosen", &value.chosen)?;
        list.append(entry)?;
    }
    Ok(list)
}

/// The weights: `name`, `dtype`, `scale`, `zero_point`, `outcome`.
pub(super) fn weights<'py>(py: Python<'py>, plan: &QuantPlan) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for weight in &plan.weights {
        let entry = PyDict::new(py);
        entry.set_item("name", &weight.name)?;
        entry.set_item("dtype", weight.params.dtype().name())?;
        entry.set_item("scale", weight.params.scale().to_vec())?;
        entry.set_item("zero_point", weight.params.zero_point().to_vec())?;
        entry.set_item("outcome", &weight.outcome)?;
        list.append(entry)?;
    }
    Ok(list)
}

/// The operators of units that the target computes in real numbers although it has integers, by name.
pub(super) fn operators_in_float(prepared: &Prepared) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    if !prepared.target.keeps_values_float() {
        for unit in &prepared.units {
            let node = &prepared.program.graph().nodes[unit.main_idx];
            let support = prepared.target.support(&node.op_type, &node.domain);
            if !support.is_integer() {
                *counts.entry(node.op_type.clone()).or_default() += 1;
            }
        }
    }
    counts.into_iter().collect()
}

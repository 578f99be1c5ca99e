//! A proposal of units in higher precision: what it raises, the plan, and its file.

use std::path::PathBuf;

use pyo3::prelude::*;
use qloupe::Error;
use qloupe::hybrid::{self, format_hybrid, plan_reference};
use qloupe::plan::{QuantPlan, constants_path, write_plan};
use qloupe::write::{check_writable, write_atomically};

use crate::error::to_python;
use crate::model::Printed;
use crate::quantized::Quantized;

/// The least set of units in higher precision that reaches a goal, or all of them where none does.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct Proposal {
    pub(crate) proposal: hybrid::Proposal,
    /// The plan that it is a change of.
    pub(crate) base: QuantPlan,
    /// The model under the plan with the proposal in it.
    pub(crate) raised: Quantized,
}

#[pymethods]
impl Proposal {
    /// What is proposed: JSON and the text that people read.
    fn printed(&self) -> Printed {
        (self.proposal.to_json().to_string(), self.proposal.to_text())
    }

    /// The model under the plan with the proposal in it.
    fn quantized(&self) -> Quantized {
        self.raised.copied()
    }

    /// Writes the proposal, one line for each unit, and the plan that it is a change of beside it. The path of the plan.
    #[pyo3(signature = (path, /))]
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<PathBuf> {
        py.detach(|| {
            let plan = path.with_extension("base.plan.toml");
            for file in [&path, &plan, &constants_path(&plan)] {
                check_writable(file)?;
            }
            write_plan(&plan, &self.base)?;
            let text = format_hybrid(&self.proposal, &plan_reference(&plan, &path));
            write_atomically(&path, text.as_bytes())?;
            Ok(plan)
        })
        .map_err(|error: Error| to_python(py, &error))
    }
}

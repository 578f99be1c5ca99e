//! A plan that plain ranges or few passes made, where much is lost: better ones have not been tried.

use super::{Case, Pattern};
use crate::quantize::{DEFAULT_ALGORITHM, DEFAULT_OPTIMIZATION_LEVEL};
use crate::report::{Action, Finding, Severity};

/// The noise at the outputs is not worth a word below this: a thousandth of the signal.
const ENOUGH_DB: f64 = 30.0;

pub(super) struct QuantizerSettings;

impl Pattern for QuantizerSettings {
    fn id(&self) -> &'static str {
        "quantizer_settings"
    }

    fn title(&self) -> &'static str {
        "a plan of plain ranges or few passes, where much is lost"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let plan = case.plan;
        let is_ours = case.prepared.stored.is_none() && case.prepared.target.activation.is_some();
        let is_best =
            plan.algorithm == DEFAULT_ALGORITHM && plan.optimization_level >= DEFAULT_OPTIMIZATION_LEVEL;
        let lost = case.report.additivity.as_ref().map(|all| all.sqnr_db);
        let Some(sqnr_db) = lost.filter(|&db| is_ours && !is_best && db < ENOUGH_DB) else {
            return Vec::new();
        };
        vec![Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            layer: None,
            cause: format!(
                "ranges are by {} and passes of level {} ran: others may lose less",
                plan.algorithm, plan.optimization_level
            ),
            evidence: format!("{sqnr_db:.1} dB at the outputs"),
            fix: format!(
                "quantize again with --algorithm {DEFAULT_ALGORITHM} --optimization-level {DEFAULT_OPTIMIZATION_LEVEL}"
            ),
            effect_db: None,
            action: Some(Action::Requantize {
                algorithm: DEFAULT_ALGORITHM.to_owned(),
                optimization_level: DEFAULT_OPTIMIZATION_LEVEL,
            }),
            tried: None,
        }]
    }
}

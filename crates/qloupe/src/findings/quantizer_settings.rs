//! A plan that plain ranges or few passes made, where much is lost: better ones have not been tried.

use super::{Case, Pattern};
use crate::quantize::{DEFAULT_ALGORITHM, DEFAULT_OPTIMIZATION_LEVEL};
use crate::report::{Action, Finding, Severity, figure_of};

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
        let outputs = case.report.outputs.iter();
        let views = outputs.flat_map(|output| {
            let slices = output.slices.iter().map(|slice| &slice.views);
            std::iter::once(&output.views).chain(slices)
        });
        let sqnr_db = views.filter_map(|views| figure_of(&views.entire, "sqnr_db"));
        let worst_db = sqnr_db.fold(f64::INFINITY, f64::min);
        if !is_ours || is_best || worst_db >= ENOUGH_DB {
            return Vec::new();
        }
        vec![Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            layer: None,
            cause: format!(
                "ranges are by {} and passes of level {} ran: others may lose less",
                plan.algorithm, plan.optimization_level
            ),
            evidence: format!("{worst_db:.1} dB at the worst output, or slice of one"),
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

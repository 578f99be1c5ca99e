//! A unit that computes something else than the float model does there.

use super::case::severity_of_fault;
use super::{Case, Pattern};
use crate::report::{Finding, View, figure_of};

/// At least this part of the error is there without any rounding ...
const LEAST_SHARE: f64 = 0.5;
/// ... and is larger than rounding makes.
const MOST_SQNR_DB: f64 = 15.0;

pub(super) struct DifferentComputation;

impl Pattern for DifferentComputation {
    fn id(&self) -> &'static str {
        "different_computation"
    }

    fn title(&self) -> &'static str {
        "a unit whose error is not one of quantization"
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let at = |layer: &crate::report::Layer| {
            let local = figure_of(View::Local.of_layer(layer)?, "sqnr_db")?;
            let cause = layer.causes.iter().find(|cause| cause.source == "computation")?;
            if local > MOST_SQNR_DB || cause.share < LEAST_SHARE {
                return None;
            }
            let effect_db = case.cost_db(layer.effect?.noise * cause.share.min(1.0))?;
            Some(Finding {
                id: self.id().to_owned(),
                severity: severity_of_fault(effect_db)?,
                layer: Some(layer.name.clone()),
                cause: "the quantized model computes something else here".to_owned(),
                evidence: format!(
                    "{local:.1} dB on golden inputs; {:.0}% of the error is there without any rounding",
                    100.0 * cause.share
                ),
                fix: "compare the nodes of both models here: a fused activation, an attribute, a weight"
                    .to_owned(),
                effect_db: Some(effect_db),
                action: None,
                tried: None,
            })
        };
        case.report.layers.iter().filter_map(at).collect()
    }
}

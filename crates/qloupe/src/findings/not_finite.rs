//! Values that are NaN or infinite under test.

use super::{Case, Pattern};
use crate::report::{Action, Finding, Severity};

pub(super) struct NotFinite;

impl Pattern for NotFinite {
    fn id(&self) -> &'static str {
        "not_finite"
    }

    fn title(&self) -> &'static str {
        "NaN or infinite values"
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let bad = case
            .report
            .layers
            .iter()
            .filter(|layer| layer.n_nan + layer.n_infinite > 0);
        bad.map(|layer| {
            let what = if layer.dtype == "float16" {
                "float16"
            } else {
                "the value"
            };
            Finding {
                id: self.id().to_owned(),
                severity: Severity::Error,
                layer: Some(layer.name.clone()),
                cause: format!("{what} holds NaN or infinite values"),
                evidence: format!("{} NaN, {} infinite elements", layer.n_nan, layer.n_infinite),
                fix: "keep the value in float: precision = \"float\" in the plan".to_owned(),
                effect_db: layer.effect.and_then(|effect| case.cost_db(effect.noise)),
                action: Some(Action::SetPrecision {
                    value: layer.name.clone(),
                    precision: "float".to_owned(),
                }),
                tried: None,
            }
        })
        .collect()
    }
}

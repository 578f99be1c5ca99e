//! What the words about the causes of a unit's error are made of.

use qloupe_exec::Form;
use qloupe_tensor::QuantParams;

use super::AVOIDABLE;
use super::weights::WeightParts;
use crate::plan::{Precision, QuantPlan};

/// A scale that reaches at most this many times as far as the largest weight fits it.
const OWN_REACH: f64 = 1.5;

/// Parameters are those of a range if both differ by at most this part: zero points are rounded to a step.
const CALIBRATED: f64 = 0.02;

/// What the words about causes are made of.
#[derive(Clone, Debug, Default)]
pub(in crate::sensitivity) struct About {
    pub(super) weights: WeightParts,
    /// The unit has weights: then integer arithmetic requantizes, otherwise it is a table.
    pub(super) is_product: bool,
    /// The parameters of the first output, and the range that it was calibrated with.
    pub(super) params: Option<QuantParams>,
    pub(super) calibrated: Option<(f64, f64)>,
    /// The error of the bias over that of rounding it to its scale; 0 where a pass changed it on purpose.
    pub(super) bias_excess: f64,
}

impl About {
    /// The parameters of the first output, where one scale serves all of it.
    pub(super) fn per_tensor_params(&self) -> Option<&QuantParams> {
        self.params
            .as_ref()
            .filter(|params| params.as_per_tensor().is_some())
    }

    /// True where the weights are far from the float model's although their scale could hold those.
    pub(super) fn has_other_weights(&self) -> bool {
        let WeightParts {
            excess,
            reach,
            n_clipped,
            ..
        } = &self.weights;
        *excess > AVOIDABLE && *reach < OWN_REACH && *n_clipped == 0
    }

    /// Whether the scale is that of the range that was calibrated; `None` where that range is not known.
    pub(super) fn has_calibrated_scale(&self) -> Option<bool> {
        let (low, high) = self.params.as_ref()?.real_range(0);
        let (min, max) = self.calibrated?;
        Some(((max - min) / (high - low) - 1.0).abs() < CALIBRATED)
    }

    /// True for parameters with the scale of the range that was calibrated, but beside it.
    pub(super) fn is_beside_calibrated(&self) -> bool {
        self.has_calibrated_scale() == Some(true) && !self.has_calibrated_range()
    }

    /// True for the range that was calibrated, neither scaled nor shifted.
    pub(super) fn has_calibrated_range(&self) -> bool {
        let ends = self
            .params
            .as_ref()
            .map(|params| params.real_range(0))
            .zip(self.calibrated);
        ends.is_some_and(|((low, high), (min, max))| {
            let near = |a: f64, b: f64| (a - b).abs() < CALIBRATED * (high - low);
            near(low, min) && near(high, max)
        })
    }

    /// About a value that a plan brings into a form.
    pub(in crate::sensitivity) fn value(name: &str, form: &Form, plan: &QuantPlan) -> Self {
        Self {
            params: form.params().cloned(),
            calibrated: calibrated(plan, name),
            ..Self::default()
        }
    }
}

/// The range, with 0 in it, of a value that has parameters of its own.
pub(super) fn calibrated(plan: &QuantPlan, name: &str) -> Option<(f64, f64)> {
    let value = plan.value(name)?;
    let range = value.range?;
    let is_own = matches!(value.precision, Precision::Quantized(_));
    is_own.then(|| (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0))))
}

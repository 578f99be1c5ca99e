//! Edits of a plan that raise the precision of units or give a value another range.

use qloupe_exec::{Cast, Form};
use qloupe_tensor::{Granularity, Range, params_from_range};

use super::{Method, Precision, QuantPlan, fit_biases, whole_range_params};
use crate::Error;
use crate::prepare::Prepared;
use crate::targets::Support;
use crate::units::unit_outputs;

/// What real numbers are called in plans of a target.
pub fn real_precision(prepared: &Prepared) -> &'static str {
    match prepared.target.fallback {
        Support::Fp16 => "fp16",
        _ => "float",
    }
}

impl QuantPlan {
    /// The plan with what some units write in real numbers: they compute so, too. Integer units read them by the scales
    /// that they had.
    #[must_use]
    pub fn with_raised(
        &self,
        prepared: &Prepared,
        unit_idxs: impl IntoIterator<Item = usize>,
        reason: &str,
    ) -> Self {
        let mut plan = self.clone();
        let precision = real_precision(prepared);
        for idx in unit_idxs {
            let names = unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]);
            for name in names {
                plan.set_real(name, precision, reason);
            }
        }
        plan
    }

    /// Puts a value into real numbers: `fp16` or `float`. False where the plan does not know it.
    pub fn set_real(&mut self, name: &str, precision: &str, reason: &str) -> bool {
        let forms = self.forms();
        let Some(value) = self.values.iter_mut().find(|value| value.name == name) else {
            return false;
        };
        if let Some(Form::Quantized(params)) = forms.get(name) {
            value.cast = Some(Cast::Fixed(params.clone()));
        }
        let reason = reason.to_owned();
        value.precision = if precision == "fp16" {
            Precision::Fp16 { reason }
        } else {
            Precision::Float { reason }
        };
        true
    }

    /// The plan with another range for a value. One that shares the scale of another gets its own.
    ///
    /// # Errors
    /// A range that is not finite.
    pub fn with_range(&self, prepared: &Prepared, name: &str, range: Range) -> Result<Option<Self>, Error> {
        let mut plan = self.clone();
        let Some(scheme) = &prepared.target.activation else {
            return Ok(None);
        };
        let Some(value) = plan.values.iter_mut().find(|value| value.name == name) else {
            return Ok(None);
        };
        let (params, _) = params_from_range(&[range], scheme)?;
        value.range = Some(range);
        match &mut value.precision {
            Precision::WeightOnly(_) | Precision::Fp16 { .. } | Precision::Float { .. } => {
                value.cast = Some(Cast::Fixed(params));
            }
            precision => *precision = Precision::Quantized(params),
        }
        fit_biases(prepared, &mut plan)?;
        Ok(Some(plan))
    }

    /// The plan with whole-range scales for the weights of a unit: for each output channel, or as many as there are.
    ///
    /// # Errors
    /// A weight that is not finite.
    pub fn with_fitted_weights(
        &self,
        prepared: &Prepared,
        unit_idx: usize,
        per_channel: bool,
    ) -> Result<Option<Self>, Error> {
        let mut plan = self.clone();
        let unit = &prepared.units[unit_idx];
        let mut changed = false;
        for name in &unit.weights {
            let known = plan.weights.iter_mut().find(|weight| weight.name == *name);
            let (Some(weight), Some(stored)) = (known, prepared.program.constant(name)) else {
                continue;
            };
            let method = match weight.params.granularity() {
                Granularity::PerBlock { .. } => Method::Block,
                Granularity::PerTensor if !per_channel => Method::Layer,
                _ => Method::Channel,
            };
            weight.params = whole_range_params(prepared, unit, name, stored, method)?;
            changed = true;
        }
        fit_biases(prepared, &mut plan)?;
        Ok(changed.then_some(plan))
    }
}

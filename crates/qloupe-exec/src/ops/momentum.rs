//! Momentum: a step along accumulated gradients.

use qloupe_tensor::Tensor;

use super::optimizer::{DOMAIN, infer_optimizer, optimize};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// With learning rate `r`, steps `t`, gradient `g` and momentum `v` of each variable `x`:
///
/// `g' = norm_coefficient * x + g; v' = alpha v + b g'` with `b = beta`, or 1 for `t = 0`;
/// `x' = x - r v'` in mode `standard`, `x' = x - r (g' + alpha v')` in mode `nesterov`.
#[derive(Debug)]
pub(super) struct Momentum;

impl Operator for Momentum {
    fn op_type(&self) -> &'static str {
        "Momentum"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_optimizer(ctx, 3)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let attribute = |name: &'static str| {
            let value = ctx.node.float(name).map(f64::from);
            value.ok_or_else(|| OpError::attribute(name, "absent, expected a number"))
        };
        let (norm, alpha, beta) = (
            attribute("norm_coefficient")?,
            attribute("alpha")?,
            attribute("beta")?,
        );
        let nesterov = match ctx.string("mode", "") {
            "standard" => false,
            "nesterov" => true,
            other => {
                return Err(OpError::attribute(
                    "mode",
                    format!("unknown, expected standard or nesterov, got \"{other}\""),
                ));
            }
        };
        optimize(ctx, |rate, count| {
            let beta = if count > 0.0 { beta } else { 1.0 };
            move |[x, g, v]: [f64; 3]| {
                let g = norm * x + g;
                let v = alpha * v + beta * g;
                let direction = if nesterov { g + alpha * v } else { v };
                [x - rate * direction, v]
            }
        })
    }
}

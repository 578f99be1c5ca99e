//! Adagrad: a gradient step divided by the root of all squared gradients.

use qloupe_tensor::Tensor;

use super::optimizer::{DOMAIN, infer_optimizer, optimize};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// With learning rate `r`, steps `t`, gradient `g` and accumulated squares `h` of each variable `x`:
///
/// `g' = norm_coefficient * x + g; h' = h + g'^2; x' = x - r / (1 + t * decay_factor) * g' / (sqrt(h') + epsilon)`.
#[derive(Debug)]
pub(super) struct Adagrad;

impl Operator for Adagrad {
    fn op_type(&self) -> &'static str {
        "Adagrad"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_optimizer(ctx, 3)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let attribute = |name, default| f64::from(ctx.float(name, default));
        let norm = attribute("norm_coefficient", 0.0);
        let epsilon = attribute("epsilon", 1e-6);
        let decay = attribute("decay_factor", 0.0);
        optimize(ctx, |rate, count| {
            let rate = rate / (1.0 + count * decay);
            move |[x, g, h]: [f64; 3]| {
                let g = norm * x + g;
                let h = h + g * g;
                [x - rate * g / (h.sqrt() + epsilon), h]
            }
        })
    }
}

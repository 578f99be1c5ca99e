//! Adam: a step along averaged gradients, divided by the root of averaged squared gradients.

use qloupe_tensor::Tensor;

use super::optimizer::{DOMAIN, infer_optimizer, optimize};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// With learning rate `r`, steps `t`, gradient `g`, averages `v` and `h` of gradients and their squares of each variable `x`:
///
/// `g' = norm_coefficient * x + g; v' = alpha v + (1 - alpha) g'; h' = beta h + (1 - beta) g'^2;
/// x' = (1 - norm_coefficient_post) * (x - r' * v' / (sqrt(h') + epsilon))`, where `r'` is `r` for `t = 0`, else
/// `r * sqrt(1 - beta^t) / (1 - alpha^t)`.
#[derive(Debug)]
pub(super) struct Adam;

impl Operator for Adam {
    fn op_type(&self) -> &'static str {
        "Adam"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_optimizer(ctx, 4)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let attribute = |name, default| f64::from(ctx.float(name, default));
        let (alpha, beta) = (attribute("alpha", 0.9), attribute("beta", 0.999));
        let norm = attribute("norm_coefficient", 0.0);
        let norm_post = attribute("norm_coefficient_post", 0.0);
        let epsilon = attribute("epsilon", 1e-6);
        optimize(ctx, |rate, count| {
            let rate = if count > 0.0 {
                rate * (1.0 - beta.powf(count)).sqrt() / (1.0 - alpha.powf(count))
            } else {
                rate
            };
            move |[x, g, v, h]: [f64; 4]| {
                let g = norm * x + g;
                let v = alpha * v + (1.0 - alpha) * g;
                let h = beta * h + (1.0 - beta) * (g * g);
                let x = x - rate * (v / (h.sqrt() + epsilon));
                [(1.0 - norm_post) * x, v, h]
            }
        })
    }
}

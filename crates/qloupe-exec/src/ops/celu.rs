//! Celu: `max(0, x) + min(0, alpha * (e^(x / alpha) - 1))`.

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::elementwise::float_unary;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x` for `x > 0`, `alpha * (e^(x / alpha) - 1)` elsewhere; `alpha` is 1 by default.
#[derive(Debug)]
pub(super) struct Celu;

impl Operator for Celu {
    fn op_type(&self) -> &'static str {
        "Celu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let alpha = ctx.float("alpha", 1.0);
        let wide = f64::from(alpha);
        float_unary(
            ctx,
            |x, out| {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = x / alpha;
                }
                unary_in_place(UnaryKernel::Elu { alpha }, out);
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = if x > 0.0 { x } else { *out };
                }
            },
            |x| if x > 0.0 { x } else { wide * (x / wide).exp_m1() },
        )
    }
}

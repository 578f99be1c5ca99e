//! Swish: `x * sigmoid(alpha * x)`.

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::elementwise::float_unary;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x * sigmoid(alpha * x)`; `alpha` is 1 by default.
#[derive(Debug)]
pub(super) struct Swish;

impl Operator for Swish {
    fn op_type(&self) -> &'static str {
        "Swish"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        swish(ctx, ctx.float("alpha", 1.0))
    }
}

/// `x * sigmoid(alpha * x)` of input 0.
///
/// # Errors
/// An absent input, a dtype that is not floating-point.
pub(super) fn swish(ctx: &EvalContext<'_>, alpha: f32) -> Result<Vec<Tensor>, OpError> {
    let wide = f64::from(alpha);
    float_unary(
        ctx,
        |x, out| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = alpha * x;
            }
            unary_in_place(UnaryKernel::Sigmoid, out);
            for (out, &x) in out.iter_mut().zip(x) {
                *out *= x;
            }
        },
        |x| x / (1.0 + (-wide * x).exp()),
    )
}

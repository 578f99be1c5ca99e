//! Mish: `x * tanh(ln(1 + e^x))`.

use qloupe_kernels::{UnaryKernel, unary, unary_in_place};
use qloupe_tensor::Tensor;

use super::elementwise::float_unary;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x * tanh(softplus(x))`.
#[derive(Debug)]
pub(super) struct Mish;

impl Operator for Mish {
    fn op_type(&self) -> &'static str {
        "Mish"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_unary(
            ctx,
            |x, out| {
                unary(UnaryKernel::Softplus, x, out);
                unary_in_place(UnaryKernel::Tanh, out);
                for (out, &x) in out.iter_mut().zip(x) {
                    *out *= x;
                }
            },
            |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh(),
        )
    }
}

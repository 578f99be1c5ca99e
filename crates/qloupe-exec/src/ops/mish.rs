//! Mish: `x * tanh(ln(1 + e^x))`.

use qloupe_kernels::{UnaryKernel, unary, unary_in_place};
use qloupe_tensor::Tensor;

use super::elementwise::float_unary;
use super::elementwise_gradient::{by_slopes, kernel_of};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

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

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
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

impl Differentiable for Mish {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_slopes(ctx, |x| {
            let mut slopes = kernel_of(UnaryKernel::Softplus, x, |x| x);
            unary_in_place(UnaryKernel::Tanh, &mut slopes);
            let sigmoids = kernel_of(UnaryKernel::Sigmoid, x, |x| x);
            for ((slope, sigmoid), x) in slopes.iter_mut().zip(sigmoids).zip(x) {
                *slope += x * sigmoid * (1.0 - *slope * *slope);
            }
            slopes
        })
    }
}

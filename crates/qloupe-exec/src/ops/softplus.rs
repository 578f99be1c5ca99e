//! Softplus: `ln(1 + e^x)`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::{by_slopes, kernel_of};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = ln(1 + e^x)`, computed as `max(x, 0) + ln(1 + e^-|x|)`, which does not overflow.
#[derive(Debug)]
pub(super) struct Softplus;

impl Operator for Softplus {
    fn op_type(&self) -> &'static str {
        "Softplus"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Softplus)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Softplus, |x| {
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        })
    }
}

impl Differentiable for Softplus {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_slopes(ctx, |x| kernel_of(UnaryKernel::Sigmoid, x, |x| x))
    }
}

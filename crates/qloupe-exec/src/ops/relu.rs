//! Relu: `max(x, 0)`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{by_input, indicator};
use super::{
    elementwise::{NumberFunction, float_kernel, numeric},
    number::Number,
};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = max(x, 0)`; NaN stays NaN.
#[derive(Debug)]
pub(super) struct Relu;

impl Operator for Relu {
    fn op_type(&self) -> &'static str {
        "Relu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Relu)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.require(0)?.dtype().is_float() {
            float_kernel(ctx, UnaryKernel::Relu, |x| if x < 0.0 { 0.0 } else { x })
        } else {
            numeric::<Self>(ctx)
        }
    }
}

impl Differentiable for Relu {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_input(ctx, |x| indicator(x > 0.0))
    }
}

impl NumberFunction for Relu {
    fn apply<T: Number>(x: T) -> T {
        x.larger(T::ZERO)
    }
}

//! Abs: `|x|`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{by_input, indicator};
use super::{
    elementwise::{NumberFunction, numeric},
    number::Number,
};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = |x|`; the lowest signed integer stays itself.
#[derive(Debug)]
pub(super) struct Abs;

impl Operator for Abs {
    fn op_type(&self) -> &'static str {
        "Abs"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Abs)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        numeric::<Self>(ctx)
    }
}

impl Differentiable for Abs {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_input(ctx, |x| indicator(x > 0.0) - indicator(x < 0.0))
    }
}

impl NumberFunction for Abs {
    fn apply<T: Number>(x: T) -> T {
        x.magnitude()
    }
}

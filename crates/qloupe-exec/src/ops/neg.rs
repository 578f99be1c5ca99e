//! Neg: `-x`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::by_input;
use super::{
    elementwise::{NumberFunction, numeric},
    number::Number,
};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = -x`; integers wrap.
#[derive(Debug)]
pub(super) struct Neg;

impl Operator for Neg {
    fn op_type(&self) -> &'static str {
        "Neg"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Neg)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        numeric::<Self>(ctx)
    }
}

impl Differentiable for Neg {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_input(ctx, |_| -1.0)
    }
}

impl NumberFunction for Neg {
    fn apply<T: Number>(x: T) -> T {
        x.negated()
    }
}

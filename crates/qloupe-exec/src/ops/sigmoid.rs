//! Sigmoid: `1 / (1 + e^-x)`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::by_output;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = 1 / (1 + e^-x)`.
#[derive(Debug)]
pub(super) struct Sigmoid;

impl Operator for Sigmoid {
    fn op_type(&self) -> &'static str {
        "Sigmoid"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Sigmoid)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()))
    }
}

impl Differentiable for Sigmoid {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_output(ctx, |y| y * (1.0 - y))
    }
}

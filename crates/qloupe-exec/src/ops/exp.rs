//! Exp: `e^x`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::by_output;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = e^x`.
#[derive(Debug)]
pub(super) struct Exp;

impl Operator for Exp {
    fn op_type(&self) -> &'static str {
        "Exp"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Exp)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Exp, f64::exp)
    }
}

impl Differentiable for Exp {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_output(ctx, |y| y)
    }
}

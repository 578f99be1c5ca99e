//! Reciprocal: `1 / x`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use super::elementwise_gradient::by_output;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = 1 / x`; infinite at 0.
#[derive(Debug)]
pub(super) struct Reciprocal;

impl Operator for Reciprocal {
    fn op_type(&self) -> &'static str {
        "Reciprocal"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Reciprocal)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map(ctx, f32::recip, f64::recip)
    }
}

impl Differentiable for Reciprocal {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_output(ctx, |y| -y * y)
    }
}

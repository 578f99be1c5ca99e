//! HardSwish: `x * max(0, min(1, x / 6 + 0.5))`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::{by_input, indicator};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = x * max(0, min(1, x / 6 + 0.5))`.
#[derive(Debug)]
pub(super) struct HardSwish;

impl Operator for HardSwish {
    fn op_type(&self) -> &'static str {
        "HardSwish"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::HardSwish)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::HardSwish, |x| {
            x * (x / 6.0 + 0.5).clamp(0.0, 1.0)
        })
    }
}

impl Differentiable for HardSwish {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_input(ctx, |x| {
            let inside = indicator((x > -3.0) & (x < 3.0));
            inside * (x * (1.0 / 3.0) + 0.5) + indicator(x >= 3.0)
        })
    }
}

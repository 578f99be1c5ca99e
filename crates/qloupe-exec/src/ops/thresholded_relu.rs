//! ThresholdedRelu: `x` above `alpha`, else 0.

use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use super::elementwise_gradient::{by_input, indicator};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x` for `x > alpha`, 0 elsewhere; `alpha` is 1 by default.
#[derive(Debug)]
pub(super) struct ThresholdedRelu;

impl Operator for ThresholdedRelu {
    fn op_type(&self) -> &'static str {
        "ThresholdedRelu"
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
        let alpha = ctx.float("alpha", 1.0);
        let wide = f64::from(alpha);
        float_map(
            ctx,
            |x| if x > alpha { x } else { 0.0 },
            |x| if x > wide { x } else { 0.0 },
        )
    }
}

impl Differentiable for ThresholdedRelu {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let alpha = ctx.call.float("alpha", 1.0);
        by_input(ctx, move |x| indicator(x > alpha))
    }
}

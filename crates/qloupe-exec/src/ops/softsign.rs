//! Softsign: `x / (1 + |x|)`.

use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use super::elementwise_gradient::by_input;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x / (1 + |x|)`.
#[derive(Debug)]
pub(super) struct Softsign;

impl Operator for Softsign {
    fn op_type(&self) -> &'static str {
        "Softsign"
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
        float_map(ctx, |x| x / (1.0 + x.abs()), |x| x / (1.0 + x.abs()))
    }
}

impl Differentiable for Softsign {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_input(ctx, |x| {
            let divisor = 1.0 + x.abs();
            1.0 / (divisor * divisor)
        })
    }
}

//! Round: the nearest integer, ties to even.

use qloupe_tensor::{Rounding, Tensor};

use super::elementwise::float_map;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = round(x)`, ties to the even integer.
#[derive(Debug)]
pub(super) struct Round;

impl Operator for Round {
    fn op_type(&self) -> &'static str {
        "Round"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map(ctx, |x| Rounding::TiesEven.round(x), f64::round_ties_even)
    }
}

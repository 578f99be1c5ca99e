//! CastLike: converts elements to the dtype of another tensor.

use qloupe_tensor::Tensor;

use super::cast::{SmallFloatRule, cast_by, infer_cast};
use super::movement_gradient::reshaped;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x` as the dtype of input 1; see Cast for the conversions.
#[derive(Debug)]
pub(super) struct CastLike;

impl Operator for CastLike {
    fn op_type(&self) -> &'static str {
        "CastLike"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_cast(ctx, ctx.dtype(1))
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let to = ctx.require(1)?.dtype();
        Ok(vec![cast_by(ctx.require(0)?, to, SmallFloatRule::of(ctx)?)?])
    }
}

impl Differentiable for CastLike {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

//! Identity: its input.

use qloupe_tensor::Tensor;

use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x`, of any dtype; shares the elements.
#[derive(Debug)]
pub(super) struct Identity;

impl Operator for Identity {
    fn op_type(&self) -> &'static str {
        "Identity"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }
}

//! BitwiseXor: bit by bit, broadcast.

use qloupe_tensor::Tensor;

use super::elementwise::{bitwise, infer_broadcast};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `c = either a or b, not both` for each bit, broadcast.
#[derive(Debug)]
pub(super) struct BitwiseXor;

impl Operator for BitwiseXor {
    fn op_type(&self) -> &'static str {
        "BitwiseXor"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, ctx.dtype(0))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        bitwise(ctx, |a, b| a ^ b)
    }
}

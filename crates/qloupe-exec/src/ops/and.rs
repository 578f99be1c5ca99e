//! And: logical, broadcast.

use qloupe_tensor::{DType, Tensor};

use super::elementwise::{binary, infer_broadcast};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `c = a and b`, broadcast.
#[derive(Debug)]
pub(super) struct And;

impl Operator for And {
    fn op_type(&self) -> &'static str {
        "And"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, Some(DType::Bool))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        binary::<bool, bool>(ctx, |a, b| a & b)
    }
}

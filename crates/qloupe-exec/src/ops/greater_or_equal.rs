//! GreaterOrEqual: `a >= b`.

use qloupe_tensor::{DType, Tensor};

use super::elementwise::{Relation, compare, infer_broadcast};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `c = a >= b`, broadcast; false where one is NaN.
#[derive(Debug)]
pub(super) struct GreaterOrEqual;

impl Operator for GreaterOrEqual {
    fn op_type(&self) -> &'static str {
        "GreaterOrEqual"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, Some(DType::Bool))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        compare::<Self>(ctx)
    }
}

impl Relation for GreaterOrEqual {
    fn holds<T: PartialOrd>(a: T, b: T) -> bool {
        a >= b
    }
}

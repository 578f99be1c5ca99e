//! Not: logical negation.

use qloupe_tensor::Tensor;

use super::elementwise::unary;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = !x`.
#[derive(Debug)]
pub(super) struct Not;

impl Operator for Not {
    fn op_type(&self) -> &'static str {
        "Not"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        unary::<bool, bool>(ctx, |x| !x)
    }
}

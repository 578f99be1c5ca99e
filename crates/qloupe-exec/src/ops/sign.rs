//! Sign: -1, 0 or 1.

use qloupe_tensor::Tensor;

use super::{
    elementwise::{NumberFunction, numeric},
    number::Number,
};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = -1` below 0, 0 at 0, 1 above; NaN stays NaN.
#[derive(Debug)]
pub(super) struct Sign;

impl Operator for Sign {
    fn op_type(&self) -> &'static str {
        "Sign"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        numeric::<Self>(ctx)
    }
}

impl NumberFunction for Sign {
    fn apply<T: Number>(x: T) -> T {
        x.sign()
    }
}

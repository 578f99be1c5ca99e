//! Sum: the sum of all inputs.

use qloupe_tensor::Tensor;

use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x0 + x1 + ...` in this order, broadcast.
#[derive(Debug)]
pub(super) struct Sum;

impl Operator for Sum {
    fn op_type(&self) -> &'static str {
        "Sum"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| Some(a.plus(b)))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl PairFunction for Sum {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.plus(b)
    }
}

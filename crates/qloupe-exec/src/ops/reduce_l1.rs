//! ReduceL1: the sum of magnitudes over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = sum of |x|`. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceL1;

impl Operator for ReduceL1 {
    fn op_type(&self) -> &'static str {
        "ReduceL1"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Reduction for ReduceL1 {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x.magnitude())
    }
}

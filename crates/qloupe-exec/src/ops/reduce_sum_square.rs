//! ReduceSumSquare: the sum of squares over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = sum of x^2`. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceSumSquare;

impl Operator for ReduceSumSquare {
    fn op_type(&self) -> &'static str {
        "ReduceSumSquare"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Reduction for ReduceSumSquare {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x.times(x))
    }
}

//! ReduceSum: the sum over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = sum of x`; 0 of no elements. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceSum;

impl Operator for ReduceSum {
    fn op_type(&self) -> &'static str {
        "ReduceSum"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Differentiable for ReduceSum {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        Ok(reduced.times(1.0))
    }
}

impl Reduction for ReduceSum {
    const AXES_INPUT_SINCE: i64 = 13;

    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x)
    }
}

//! ReduceLogSum: the logarithm of the sum over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce, through_f64};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = ln(sum of x)`; the logarithm is the f64 one of the standard library, rounded once. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceLogSum;

impl Operator for ReduceLogSum {
    fn op_type(&self) -> &'static str {
        "ReduceLogSum"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Reduction for ReduceLogSum {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x)
    }

    fn finish<A: Number>(acc: A, _n: usize) -> A {
        through_f64(acc, f64::ln)
    }
}

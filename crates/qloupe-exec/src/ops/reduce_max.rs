//! ReduceMax: the largest element over axes.

use qloupe_tensor::Tensor;

use super::number::{Exact, Number};
use super::reduction::{Reduction, infer_reduction, reduce};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = largest x`; NaN wins; bools are 0 and 1. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceMax;

impl Operator for ReduceMax {
    fn op_type(&self) -> &'static str {
        "ReduceMax"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Reduction for ReduceMax {
    fn start<A: Number>() -> A {
        A::narrow(Exact::Float(f64::NEG_INFINITY))
    }

    fn step<A: Number>(acc: A, x: A) -> A {
        acc.larger(x)
    }
}

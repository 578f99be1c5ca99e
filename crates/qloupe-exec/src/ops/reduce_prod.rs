//! ReduceProd: the product over axes.

use qloupe_tensor::Tensor;

use super::number::{Exact, Number};
use super::reduction::{Reduction, infer_reduction, reduce};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = product of x`; 1 of no elements. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceProd;

impl Operator for ReduceProd {
    fn op_type(&self) -> &'static str {
        "ReduceProd"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, Self::AXES_INPUT_SINCE)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Reduction for ReduceProd {
    fn start<A: Number>() -> A {
        A::narrow(Exact::Signed(1))
    }

    fn step<A: Number>(acc: A, x: A) -> A {
        acc.times(x)
    }
}

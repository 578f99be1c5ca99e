//! CumSum: running sums along an axis.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::running::{Running, run_along};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = x[0] + ... + x[i]` along the axis of input 1; without `x[i]` if `exclusive`, from the end if `reverse`.
#[derive(Debug)]
pub(super) struct CumSum;

impl Running for CumSum {
    fn start<T: Number>() -> T {
        T::ZERO
    }

    fn step<T: Number>(acc: T, x: T) -> T {
        acc.plus(x)
    }
}

impl Operator for CumSum {
    fn op_type(&self) -> &'static str {
        "CumSum"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        run_along::<Self>(ctx)
    }
}

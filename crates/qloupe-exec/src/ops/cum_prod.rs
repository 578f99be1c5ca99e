//! CumProd: running products along an axis.

use qloupe_tensor::Tensor;

use super::number::{Exact, Number};
use super::running::{Running, run_along};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = x[0] * ... * x[i]` along the axis of input 1; without `x[i]` if `exclusive`, from the end if `reverse`.
#[derive(Debug)]
pub(super) struct CumProd;

impl Running for CumProd {
    fn start<T: Number>() -> T {
        T::narrow(Exact::Signed(1))
    }

    fn step<T: Number>(acc: T, x: T) -> T {
        acc.times(x)
    }
}

impl Operator for CumProd {
    fn op_type(&self) -> &'static str {
        "CumProd"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        run_along::<Self>(ctx)
    }
}

//! ReduceMin: the smallest element over axes.

use qloupe_tensor::Tensor;

use super::number::{Exact, Number};
use super::reduction::{Reduction, infer_reduction, reduce};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = smallest x`; NaN wins; bools are 0 and 1. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceMin;

impl Operator for ReduceMin {
    fn op_type(&self) -> &'static str {
        "ReduceMin"
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

impl Differentiable for ReduceMin {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        reduced.first_equal(ctx.output(0)?)
    }
}

impl Reduction for ReduceMin {
    fn start<A: Number>() -> A {
        A::narrow(Exact::Float(f64::INFINITY))
    }

    fn step<A: Number>(acc: A, x: A) -> A {
        acc.smaller(x)
    }
}

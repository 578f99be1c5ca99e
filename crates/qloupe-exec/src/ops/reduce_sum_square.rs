//! ReduceSumSquare: the sum of squares over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

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

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce::<Self>(ctx)
    }
}

impl Differentiable for ReduceSumSquare {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        reduced.by(ctx.output(0)?, |x, _| 2.0 * x)
    }
}

impl Reduction for ReduceSumSquare {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x.times(x))
    }
}

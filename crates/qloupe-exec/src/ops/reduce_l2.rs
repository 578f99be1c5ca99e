//! ReduceL2: the Euclidean norm over axes.

use qloupe_tensor::Tensor;

use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce, through_f64};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = sqrt(sum of x^2)`. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceL2;

impl Operator for ReduceL2 {
    fn op_type(&self) -> &'static str {
        "ReduceL2"
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

impl Differentiable for ReduceL2 {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        reduced.by(ctx.output(0)?, |x, y| if y > 0.0 { x / y } else { 0.0 })
    }
}

impl Reduction for ReduceL2 {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x.times(x))
    }

    fn finish<A: Number>(acc: A, _n: usize) -> A {
        through_f64(acc, f64::sqrt)
    }
}

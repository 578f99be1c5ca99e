//! ReduceL1: the sum of magnitudes over axes.

use qloupe_tensor::Tensor;

use super::elementwise_gradient::indicator;
use super::number::Number;
use super::reduction::{Reduction, infer_reduction, reduce};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = sum of |x|`. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceL1;

impl Operator for ReduceL1 {
    fn op_type(&self) -> &'static str {
        "ReduceL1"
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

impl Differentiable for ReduceL1 {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        reduced.by(ctx.output(0)?, |x, _| indicator(x > 0.0) - indicator(x < 0.0))
    }
}

impl Reduction for ReduceL1 {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x.magnitude())
    }
}

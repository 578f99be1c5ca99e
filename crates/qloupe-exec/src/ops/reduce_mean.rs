//! ReduceMean: the mean over axes.

use qloupe_tensor::Tensor;

use super::number::{Exact, Number};
use super::reduction::{Reduction, infer_reduction, reduce};
use super::reduction_gradient::Reduced;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = sum of x / n`; NaN of no elements, integers truncate. See the module `reduction` for axes and numerics.
#[derive(Debug)]
pub(super) struct ReduceMean;

impl Operator for ReduceMean {
    fn op_type(&self) -> &'static str {
        "ReduceMean"
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

impl Differentiable for ReduceMean {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, Self::AXES_INPUT_SINCE)?;
        let share = 1.0 / reduced.n() as f32;
        Ok(reduced.times(share))
    }
}

impl Reduction for ReduceMean {
    fn step<A: Number>(acc: A, x: A) -> A {
        acc.plus(x)
    }

    fn finish<A: Number>(acc: A, n: usize) -> A {
        if n == 0 {
            A::narrow(Exact::Float(f64::NAN))
        } else {
            acc.over(A::narrow(Exact::Unsigned(n as u64)))
        }
    }
}

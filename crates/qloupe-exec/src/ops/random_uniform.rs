//! RandomUniform: evenly distributed numbers.

use qloupe_tensor::Tensor;

use super::random_tensor::{Distribution, draw, infer_draw};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = low + (high - low) * u` with `u` evenly distributed over `[0, 1)`.
///
/// The same numbers in every run: they depend on the seed, or without one on the name of the output.
#[derive(Debug)]
pub(super) struct RandomUniform;

impl Operator for RandomUniform {
    fn op_type(&self) -> &'static str {
        "RandomUniform"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_draw(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        draw(ctx, Distribution::Uniform)
    }
}

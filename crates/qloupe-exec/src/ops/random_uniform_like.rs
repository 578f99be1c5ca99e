//! RandomUniformLike: evenly distributed numbers, of the shape of an input.

use qloupe_tensor::Tensor;

use super::random_tensor::{Distribution, draw_like, infer_draw_like};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = low + (high - low) * u` with `u` evenly distributed over `[0, 1)`.
///
/// The same numbers in every run: they depend on the seed, or without one on the name of the output.
#[derive(Debug)]
pub(super) struct RandomUniformLike;

impl Operator for RandomUniformLike {
    fn op_type(&self) -> &'static str {
        "RandomUniformLike"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_draw_like(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        draw_like(ctx, Distribution::Uniform)
    }
}

//! RandomNormalLike: numbers of a normal distribution, of the shape of an input.

use qloupe_tensor::Tensor;

use super::random_tensor::{Distribution, draw_like, infer_draw_like};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = mean + scale * z` with `z` of the standard normal distribution.
///
/// The same numbers in every run: they depend on the seed, or without one on the name of the output.
#[derive(Debug)]
pub(super) struct RandomNormalLike;

impl Operator for RandomNormalLike {
    fn op_type(&self) -> &'static str {
        "RandomNormalLike"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_draw_like(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        draw_like(ctx, Distribution::Normal)
    }
}

//! RandomNormal: numbers of a normal distribution.

use qloupe_tensor::Tensor;

use super::random_tensor::{Distribution, draw, infer_draw};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = mean + scale * z` with `z` of the standard normal distribution.
///
/// The same numbers in every run: they depend on the seed, or without one on the name of the output.
#[derive(Debug)]
pub(super) struct RandomNormal;

impl Operator for RandomNormal {
    fn op_type(&self) -> &'static str {
        "RandomNormal"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_draw(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        draw(ctx, Distribution::Normal)
    }
}

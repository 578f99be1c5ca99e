//! Floor: the largest integer not above `x`.

use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = floor(x)`.
#[derive(Debug)]
pub(super) struct Floor;

impl Operator for Floor {
    fn op_type(&self) -> &'static str {
        "Floor"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map(ctx, f32::floor, f64::floor)
    }
}

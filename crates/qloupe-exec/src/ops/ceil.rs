//! Ceil: the smallest integer not below `x`.

use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = ceil(x)`.
#[derive(Debug)]
pub(super) struct Ceil;

impl Operator for Ceil {
    fn op_type(&self) -> &'static str {
        "Ceil"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map(ctx, f32::ceil, f64::ceil)
    }
}

//! Sin: `sin(x)`.

use qloupe_tensor::Tensor;

use super::elementwise::float_map_wide;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = sin(x)`, computed in f64 by the standard library and rounded once.
#[derive(Debug)]
pub(super) struct Sin;

impl Operator for Sin {
    fn op_type(&self) -> &'static str {
        "Sin"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map_wide(ctx, f64::sin)
    }
}

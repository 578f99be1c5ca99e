//! Reciprocal: `1 / x`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_map;
use crate::{ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext};

/// `y = 1 / x`; infinite at 0.
#[derive(Debug)]
pub(super) struct Reciprocal;

impl Operator for Reciprocal {
    fn op_type(&self) -> &'static str {
        "Reciprocal"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Reciprocal)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_map(ctx, f32::recip, f64::recip)
    }
}

//! Softplus: `ln(1 + e^x)`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use crate::{ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext};

/// `y = ln(1 + e^x)`, computed as `max(x, 0) + ln(1 + e^-|x|)`, which does not overflow.
#[derive(Debug)]
pub(super) struct Softplus;

impl Operator for Softplus {
    fn op_type(&self) -> &'static str {
        "Softplus"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Softplus)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Softplus, |x| {
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        })
    }
}

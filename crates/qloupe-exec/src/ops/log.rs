//! Log: the natural logarithm.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use crate::{ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext};

/// `y = ln(x)`; NaN below 0, -inf at 0.
#[derive(Debug)]
pub(super) struct Log;

impl Operator for Log {
    fn op_type(&self) -> &'static str {
        "Log"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Log)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Log, f64::ln)
    }
}

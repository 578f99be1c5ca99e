//! Exp: `e^x`.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use crate::{ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext};

/// `y = e^x`.
#[derive(Debug)]
pub(super) struct Exp;

impl Operator for Exp {
    fn op_type(&self) -> &'static str {
        "Exp"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Exp)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Exp, f64::exp)
    }
}

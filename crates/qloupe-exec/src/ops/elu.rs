//! Elu: `x`, or `alpha * (e^x - 1)` below 0.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::by_output;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = x` for `x >= 0`, `alpha * (e^x - 1)` below; `alpha` is 1 by default.
#[derive(Debug)]
pub(super) struct Elu;

impl Operator for Elu {
    fn op_type(&self) -> &'static str {
        "Elu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        let alpha = ctx.node.float("alpha").unwrap_or(1.0);
        ElementSteps::unary(UnaryKernel::Elu { alpha })
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let alpha = ctx.float("alpha", 1.0);
        let wide = f64::from(alpha);
        float_kernel(ctx, UnaryKernel::Elu { alpha }, |x| {
            if x < 0.0 { wide * x.exp_m1() } else { x }
        })
    }
}

impl Differentiable for Elu {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let alpha = ctx.call.float("alpha", 1.0);
        // For a negative input y + alpha is alpha * e^x.
        by_output(ctx, move |y| if y > 0.0 { 1.0 } else { y + alpha })
    }
}

//! LeakyRelu: `x`, or `alpha * x` below 0.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::{by_input, indicator};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = x` for `x >= 0`, `alpha * x` below; `alpha` is 0.01 by default.
#[derive(Debug)]
pub(super) struct LeakyRelu;

impl Operator for LeakyRelu {
    fn op_type(&self) -> &'static str {
        "LeakyRelu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        let alpha = ctx.node.float("alpha").unwrap_or(0.01);
        ElementSteps::unary(UnaryKernel::LeakyRelu { alpha })
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let alpha = ctx.float("alpha", 0.01);
        let wide = f64::from(alpha);
        float_kernel(ctx, UnaryKernel::LeakyRelu { alpha }, |x| {
            if x < 0.0 { wide * x } else { x }
        })
    }
}

impl Differentiable for LeakyRelu {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let alpha = ctx.call.float("alpha", 0.01);
        by_input(ctx, move |x| 1.0 - (1.0 - alpha) * indicator(x < 0.0))
    }
}

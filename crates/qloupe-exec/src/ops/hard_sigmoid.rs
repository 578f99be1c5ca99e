//! HardSigmoid: `alpha * x + beta`, clipped to [0, 1].

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::{by_input, indicator};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = max(0, min(1, alpha * x + beta))`; `alpha` is 0.2 and `beta` 0.5 by default.
#[derive(Debug)]
pub(super) struct HardSigmoid;

impl Operator for HardSigmoid {
    fn op_type(&self) -> &'static str {
        "HardSigmoid"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        let number = |name: &str, default| ctx.node.float(name).unwrap_or(default);
        let (alpha, beta) = (number("alpha", 0.2), number("beta", 0.5));
        ElementSteps::unary(UnaryKernel::HardSigmoid { alpha, beta })
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (alpha, beta) = (ctx.float("alpha", 0.2), ctx.float("beta", 0.5));
        let (slope, shift) = (f64::from(alpha), f64::from(beta));
        float_kernel(ctx, UnaryKernel::HardSigmoid { alpha, beta }, |x| {
            (slope * x + shift).clamp(0.0, 1.0)
        })
    }
}

impl Differentiable for HardSigmoid {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let (alpha, beta) = (ctx.call.float("alpha", 0.2), ctx.call.float("beta", 0.5));
        by_input(ctx, move |x| {
            let y = alpha * x + beta;
            alpha * indicator((y > 0.0) & (y < 1.0))
        })
    }
}

//! Erf: the error function.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::float_kernel;
use super::elementwise_gradient::{by_slopes, kernel_of};
use super::error_function::error_function;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = erf(x)`.
#[derive(Debug)]
pub(super) struct Erf;

impl Operator for Erf {
    fn op_type(&self) -> &'static str {
        "Erf"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::unary(UnaryKernel::Erf)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        float_kernel(ctx, UnaryKernel::Erf, error_function)
    }
}

impl Differentiable for Erf {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        by_slopes(ctx, |x| {
            let mut slopes = kernel_of(UnaryKernel::Exp, x, |x| -x * x);
            slopes
                .iter_mut()
                .for_each(|slope| *slope *= std::f32::consts::FRAC_2_SQRT_PI);
            slopes
        })
    }
}

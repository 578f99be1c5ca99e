//! Selu: the scaled exponential linear unit.

use qloupe_kernels::{UnaryKernel, unary};
use qloupe_tensor::Tensor;

use super::elementwise::float_unary;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = gamma * x` for `x > 0`, `gamma * alpha * (e^x - 1)` elsewhere; the defaults are those of the paper.
///
/// # Source
/// Klambauer et al., Self-Normalizing Neural Networks, 2017.
#[derive(Debug)]
pub(super) struct Selu;

impl Operator for Selu {
    fn op_type(&self) -> &'static str {
        "Selu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (alpha, gamma) = (ctx.float("alpha", 1.673_263_2), ctx.float("gamma", 1.050_701));
        let (wide_alpha, wide_gamma) = (f64::from(alpha), f64::from(gamma));
        float_unary(
            ctx,
            |x, out| {
                unary(UnaryKernel::Elu { alpha }, x, out);
                for out in out {
                    *out *= gamma;
                }
            },
            |x| wide_gamma * if x > 0.0 { x } else { wide_alpha * x.exp_m1() },
        )
    }
}

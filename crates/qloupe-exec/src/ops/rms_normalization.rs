//! RMSNormalization: divides by the root of the mean square.

use qloupe_tensor::Tensor;

use super::layer_normalization::{affine, scale_and_shift};
use super::normalization::{each_row, floats, rounded, sum_of};
use super::normalization_gradient::{Center, standardized};
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = x / sqrt(mean of x^2 + epsilon) * scale` over the axes `axis..`.
#[derive(Debug)]
pub(super) struct RMSNormalization;

impl Operator for RMSNormalization {
    fn op_type(&self) -> &'static str {
        "RMSNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let axis = resolve_axis(ctx.int("axis", -1), x.rank())?;
        let n = Around::axes(x.shape(), axis, x.rank()).n;
        let epsilon = f64::from(ctx.float("epsilon", 1e-5));
        let mut values = floats(ctx, 0)?;
        let scale = affine(ctx, 1, &x.shape()[axis..])?;
        each_row(&mut values, n, |_, row| {
            let inverse = inverse_rms(row, epsilon);
            row.iter_mut().for_each(|v| *v *= inverse);
            scale_and_shift(row, scale.as_deref(), None);
        });
        Ok(vec![rounded(x.shape(), values, x.dtype())?])
    }
}

impl Differentiable for RMSNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let axis = resolve_axis(ctx.call.int("axis", -1), x.rank())?;
        let n = Around::axes(x.shape(), axis, x.rank()).n;
        let epsilon = f64::from(ctx.call.float("epsilon", 1e-5));
        let scale = affine(&ctx.call, 1, &x.shape()[axis..])?.unwrap_or_else(|| vec![1.0; n]);
        standardized(x, n, epsilon, Center::Zero, move |_, i| scale[i])
    }
}

/// `1 / sqrt(mean of x^2 + epsilon)`
pub(super) fn inverse_rms(row: &[f64], epsilon: f64) -> f64 {
    1.0 / (sum_of(row, |v| v * v) / row.len() as f64 + epsilon).sqrt()
}

//! Softmax: exponentials of a row, divided by their sum.

use qloupe_tensor::Tensor;

use super::rows::Around;
use super::soft_rows::{over_gradient_rows, rows_of};
use super::soft_rows::{over_rows, soft_rows};
use crate::operator::resolve_axis;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = e^(x - m) / sum of e^(x - m)` with the largest `m` of the row.
///
/// Below opset 13 the tensor is flattened to two axes at `axis` (1 by default) and a row is a row of that matrix; from
/// then on a row runs along `axis` (the last one by default).
#[derive(Debug)]
pub(super) struct Softmax;

impl Operator for Softmax {
    fn op_type(&self) -> &'static str {
        "Softmax"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        soft_rows(ctx, narrow, wide)
    }
}

impl Differentiable for Softmax {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let around = rows_of(&ctx.call, ctx.call.require(0)?.shape())?;
        let y = ctx.output(0)?.to_f32()?.require::<f32>()?.to_vec();
        Ok(over_gradient_rows(
            around,
            y,
            |g, y| g * y,
            |g, y, sum| y * (g - sum),
        ))
    }
}

/// The softmax along the last axis of a tensor of type float32 or float64.
///
/// # Errors
/// Another dtype, rank 0.
pub(super) fn softmax_rows_of(x: &Tensor) -> Result<Tensor, OpError> {
    let last = resolve_axis(-1, x.rank())?;
    over_rows(x, Around::axes(x.shape(), last, x.rank()), narrow, wide)
}

fn narrow(x: &[f32], n: usize, out: &mut [f32]) {
    qloupe_kernels::softmax_rows(x, x.len() / n, n, out);
}

fn wide(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum = row.iter().fold(0.0, |sum, x| sum + x);
    row.iter_mut().for_each(|x| *x /= sum);
}

//! LogSoftmax: the logarithm of Softmax.

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::rows::for_each_row;
use super::soft_rows::soft_rows;
use super::soft_rows::{over_gradient_rows, rows_of};
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = x - m - ln(sum of e^(x - m))` with the largest `m` of the row.
///
/// # Numerics
/// The sum of a row is an in-order f64 sum.
///
/// Below opset 13 the tensor is flattened to two axes at `axis` (1 by default) and a row is a row of that matrix; from
/// then on a row runs along `axis` (the last one by default).
#[derive(Debug)]
pub(super) struct LogSoftmax;

impl Operator for LogSoftmax {
    fn op_type(&self) -> &'static str {
        "LogSoftmax"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        soft_rows(
            ctx,
            |x, n, out| for_each_row(out, n, x.len(), &|i, out| log_softmax(&x[i * n..][..n], out)),
            log_softmax_wide,
        )
    }
}

impl Differentiable for LogSoftmax {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let around = rows_of(&ctx.call, ctx.call.require(0)?.shape())?;
        let mut shares = ctx.output(0)?.to_f32()?.require::<f32>()?.to_vec();
        unary_in_place(UnaryKernel::Exp, &mut shares);
        Ok(over_gradient_rows(
            around,
            shares,
            |g, _| g,
            |g, share, sum| g - share * sum,
        ))
    }
}

fn log_softmax(x: &[f32], out: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x - largest;
    }
    unary_in_place(UnaryKernel::Exp, out);
    let mut sum = [out.iter().fold(0.0, |sum, &e| sum + f64::from(e)) as f32];
    unary_in_place(UnaryKernel::Log, &mut sum);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = (x - largest) - sum[0];
    }
}

/// LogSoftmax of one row of f64, in place.
pub(super) fn log_softmax_wide(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = row.iter().fold(0.0, |sum, x| sum + (x - largest).exp()).ln();
    row.iter_mut().for_each(|x| *x = *x - largest - sum);
}

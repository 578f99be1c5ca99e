//! Softmax: exponentials of a row, divided by their sum.

use qloupe_tensor::Tensor;

use super::soft_rows::soft_rows;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

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

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        soft_rows(
            ctx,
            |x, n, out| qloupe_kernels::softmax_rows(x, x.len() / n, n, out),
            |row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter_mut().for_each(|x| *x = (*x - largest).exp());
                let sum = row.iter().fold(0.0, |sum, x| sum + x);
                row.iter_mut().for_each(|x| *x /= sum);
            },
        )
    }
}

//! SoftmaxCrossEntropyLoss: the loss of scores.

use qloupe_tensor::Tensor;

use super::log_softmax::log_softmax_wide;
use super::loss::{class_loss, infer_loss};
use super::normalization::{each_row, floats, rounded};
use super::rows::Around;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The negative log-likelihood of LogSoftmax over the classes; the log-probabilities are the second output.
///
/// # Shapes
/// scores: `[N, C, ..]`; labels: `[N, ..]`; weights: `[C]`; log_prob: as scores.
#[derive(Debug)]
pub(super) struct SoftmaxCrossEntropyLoss;

impl Operator for SoftmaxCrossEntropyLoss {
    fn op_type(&self) -> &'static str {
        "SoftmaxCrossEntropyLoss"
    }

    fn since_version(&self) -> i64 {
        12
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let mut facts = vec![infer_loss(ctx)?];
        facts.append(&mut ctx.same_as_input()?);
        Ok(facts)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        if x.rank() < 2 {
            return Err(OpError::input(
                0,
                format!(
                    "wrong rank, expected at least 2 ([N, C, ..]), got shape {:?}",
                    x.shape()
                ),
            ));
        }
        let around = Around::axes(x.shape(), 1, 2);
        let mut rows = around.gather(&floats(ctx, 0)?);
        each_row(&mut rows, around.n, |_, row| log_softmax_wide(row));
        let log_probabilities = around.scatter(&rows);
        let loss = class_loss(ctx, &log_probabilities, x.shape(), x.dtype())?;
        Ok(vec![loss, rounded(x.shape(), log_probabilities, x.dtype())?])
    }
}

//! NegativeLogLikelihoodLoss: the loss of log-probabilities.

use qloupe_tensor::Tensor;

use super::loss::{class_loss, infer_loss};
use super::normalization::floats;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `loss[n, ..] = -weight[target[n, ..]] * x[n, target[n, ..], ..]`, each, their sum or their weighted mean.
///
/// # Shapes
/// x: `[N, C, ..]`; target: `[N, ..]`; weight: `[C]`.
#[derive(Debug)]
pub(super) struct NegativeLogLikelihoodLoss;

impl Operator for NegativeLogLikelihoodLoss {
    fn op_type(&self) -> &'static str {
        "NegativeLogLikelihoodLoss"
    }

    fn since_version(&self) -> i64 {
        12
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![infer_loss(ctx)?])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![class_loss(ctx, &floats(ctx, 0)?, x.shape(), x.dtype())?])
    }
}

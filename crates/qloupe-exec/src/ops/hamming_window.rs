//! HammingWindow: a raised cosine on a pedestal.

use qloupe_tensor::Tensor;

use super::cosine_window::{cosine_window, infer_window};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = 25/46 - 21/46 cos(2 pi i / n)`.
#[derive(Debug)]
pub(super) struct HammingWindow;

impl Operator for HammingWindow {
    fn op_type(&self) -> &'static str {
        "HammingWindow"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_window(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        cosine_window(ctx, [25.0 / 46.0, 21.0 / 46.0, 0.0])
    }
}

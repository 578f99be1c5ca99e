//! BlackmanWindow: three terms of cosines.

use qloupe_tensor::Tensor;

use super::cosine_window::{cosine_window, infer_window};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = 0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n)`.
#[derive(Debug)]
pub(super) struct BlackmanWindow;

impl Operator for BlackmanWindow {
    fn op_type(&self) -> &'static str {
        "BlackmanWindow"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_window(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        cosine_window(ctx, [0.42, 0.5, 0.08])
    }
}

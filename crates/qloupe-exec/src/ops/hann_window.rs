//! HannWindow: a raised cosine.

use qloupe_tensor::Tensor;

use super::cosine_window::{cosine_window, infer_window};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = 0.5 - 0.5 cos(2 pi i / n)`.
#[derive(Debug)]
pub(super) struct HannWindow;

impl Operator for HannWindow {
    fn op_type(&self) -> &'static str {
        "HannWindow"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_window(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        cosine_window(ctx, [0.5, 0.5, 0.0])
    }
}

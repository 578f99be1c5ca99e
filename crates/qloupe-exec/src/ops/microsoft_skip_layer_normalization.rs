//! com.microsoft.SkipLayerNormalization: LayerNormalization of a sum.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::layer_normalization::LayerNormalization;
use super::skip_normalization::{Parts, infer_skip, normalize_sum};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = layer_normalization(x + skip + bias) * gamma + beta`; outputs 1 and 2 are the mean and the inverse of the
/// divisor, output 3 the sum.
#[derive(Debug)]
pub(super) struct SkipLayerNormalization;

impl Operator for SkipLayerNormalization {
    fn op_type(&self) -> &'static str {
        "SkipLayerNormalization"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_skip(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let parts = Parts {
            scale: 2,
            shift: Some(3),
            bias: 4,
        };
        normalize_sum(ctx, &LayerNormalization, parts)
    }
}

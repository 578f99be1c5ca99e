//! com.microsoft.SkipSimplifiedLayerNormalization: SimplifiedLayerNormalization of a sum.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::simplified_layer_normalization::SimplifiedLayerNormalization;
use super::skip_normalization::{Parts, infer_skip, normalize_sum};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = simplified_layer_normalization(x + skip + bias) * gamma`; output 2 is the inverse of the divisor, output 3 the
/// sum. There is no mean to give.
#[derive(Debug)]
pub(super) struct SkipSimplifiedLayerNormalization;

impl Operator for SkipSimplifiedLayerNormalization {
    fn op_type(&self) -> &'static str {
        "SkipSimplifiedLayerNormalization"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_skip(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.node.output(1).is_some() {
            return Err(OpError::unsupported("output 1, a mean that is never computed,"));
        }
        let parts = Parts {
            scale: 2,
            shift: None,
            bias: 3,
        };
        let mut outputs = normalize_sum(ctx, &SimplifiedLayerNormalization, parts)?;
        // Output 1 of the plain operator, the inverse, is output 2 here.
        outputs.swap(1, 2);
        Ok(outputs)
    }
}

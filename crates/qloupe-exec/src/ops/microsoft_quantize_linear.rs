//! com.microsoft.QuantizeLinear: real numbers to integers, as in ONNX.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::quantize_linear::QuantizeLinear;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// QuantizeLinear of ONNX: models of opsets that had no integers of 4 and 16 bits say it in this domain.
#[derive(Debug)]
pub(super) struct MicrosoftQuantizeLinear;

impl Operator for MicrosoftQuantizeLinear {
    fn op_type(&self) -> &'static str {
        QuantizeLinear.op_type()
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        QuantizeLinear.layout()
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        QuantizeLinear.infer(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        QuantizeLinear.eval(ctx)
    }
}

//! com.microsoft.DequantizeLinear: integers to real numbers, as in ONNX.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::dequantize_linear::DequantizeLinear;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// DequantizeLinear of ONNX: models of opsets that had no integers of 4 and 16 bits say it in this domain.
#[derive(Debug)]
pub(super) struct MicrosoftDequantizeLinear;

impl Operator for MicrosoftDequantizeLinear {
    fn op_type(&self) -> &'static str {
        DequantizeLinear.op_type()
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        DequantizeLinear.layout()
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        DequantizeLinear.infer(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        DequantizeLinear.eval(ctx)
    }
}

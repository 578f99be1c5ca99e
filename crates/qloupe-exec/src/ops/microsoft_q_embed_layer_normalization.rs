//! com.microsoft.QEmbedLayerNormalization: EmbedLayerNormalization of quantized tables.

use qloupe_tensor::{DType, QuantParams, Tensor, dequantize_linear};

use super::composed::MICROSOFT;
use super::elementwise::scalar;
use super::microsoft_embed_layer_normalization::EmbedLayerNormalization;
use super::quant_parameters::zero_points;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// EmbedLayerNormalization with the tables of words, positions and segments, gamma and beta dequantized.
///
/// Their scales are inputs 8 to 12, their zero points inputs 13 to 17.
#[derive(Debug)]
pub(super) struct QEmbedLayerNormalization;

/// The inputs that are quantized.
const QUANTIZED: std::ops::Range<usize> = 2..7;
const FIRST_SCALE: usize = 8;
const FIRST_ZERO_POINT: usize = 13;

impl Operator for QEmbedLayerNormalization {
    fn op_type(&self) -> &'static str {
        "QEmbedLayerNormalization"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let mut facts = EmbedLayerNormalization.infer(ctx)?;
        facts.truncate(2);
        if let Some(y) = facts.first_mut() {
            y.dtype = Some(DType::Float32);
        }
        Ok(facts)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let mut real = Vec::with_capacity(QUANTIZED.len());
        for (i, idx) in QUANTIZED.enumerate() {
            let table = match ctx.input(idx) {
                Some(q) => Some(dequantized(ctx, q, FIRST_SCALE + i, FIRST_ZERO_POINT + i)?),
                None => None,
            };
            real.push(table);
        }
        let mut inputs = vec![ctx.input(0), ctx.input(1)];
        inputs.extend(real.iter().map(Option::as_ref));
        inputs.push(ctx.input(7));
        let mut outputs = EmbedLayerNormalization.eval(&EvalContext {
            node: ctx.node,
            opset: ctx.opset,
            layout: ctx.layout,
            inputs: &inputs,
        })?;
        outputs.truncate(2);
        Ok(outputs)
    }
}

fn dequantized(
    ctx: &EvalContext<'_>,
    q: &Tensor,
    scale: usize,
    zero_point: usize,
) -> Result<Tensor, OpError> {
    let zero_point = match zero_points(ctx, zero_point, 1)?.as_slice() {
        &[zero_point] => zero_point,
        several => {
            return Err(OpError::input(
                zero_point,
                format!("wrong number of zero points, expected 1, got {}", several.len()),
            ));
        }
    };
    let params = QuantParams::per_tensor(q.dtype(), scalar(ctx, scale)?, zero_point)?;
    Ok(dequantize_linear(q, &params)?)
}

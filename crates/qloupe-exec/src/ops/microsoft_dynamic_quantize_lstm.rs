//! com.microsoft.DynamicQuantizeLSTM: LSTM with integer products.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::dynamic_product::DynamicProduct;
use super::float_tensor::to_float32;
use super::lstm::{ACTIVATIONS, N_GATES, run_lstm};
use super::recurrent::{Recurrences, Recurrent, Sequences, infer_recurrent, require_shape};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// LSTM with W `[directions, input, 4 * hidden]` and R `[directions, hidden, 4 * hidden]` of 8-bit integers.
///
/// The input is quantized by the range of all steps, the state by its range at every step; inputs 8 to 11 are scale and
/// zero point of W and of R. Gates and activations are those of LSTM in float32.
#[derive(Debug)]
pub(super) struct DynamicQuantizeLstm;

impl Operator for DynamicQuantizeLstm {
    fn op_type(&self) -> &'static str {
        "DynamicQuantizeLSTM"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_recurrent(ctx, 2)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (weight, recurrence) = (ctx.require(1)?, ctx.require(2)?);
        let rows = recurrence.shape().last().copied().unwrap_or(0);
        let hidden = rows / N_GATES;
        let sequences = Sequences::read(ctx, hidden * N_GATES)?;
        let directions = sequences.reversed.len();
        let [steps, batch, input] = [0, 1, 2].map(|axis| sequences.x.shape()[axis]);
        require_shape(1, weight, &[directions, input, hidden * N_GATES])?;
        require_shape(2, recurrence, &[directions, hidden, hidden * N_GATES])?;
        let x = to_float32(&sequences.x, 0)?;
        let mut products = Vec::with_capacity(directions);
        let mut recurrences = Vec::with_capacity(directions);
        for direction in 0..directions {
            let bias = sequences.input_bias(direction);
            products
                .push(DynamicProduct::of_direction(ctx, (1, 8), direction, bias)?.run(&x, steps * batch)?);
            let bias = sequences.recurrence_bias(direction);
            recurrences.push(DynamicProduct::of_direction(ctx, (2, 10), direction, bias)?);
        }
        let recurrences = Recurrences::Quantized(recurrences);
        let layer = Recurrent::of_products(ctx, N_GATES, ACTIVATIONS, &sequences, products, recurrences)?;
        run_lstm(ctx, &layer)
    }
}

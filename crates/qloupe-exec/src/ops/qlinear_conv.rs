//! QLinearConv: the convolution of quantized numbers, requantized.

use qloupe_tensor::{Requantize, Tensor};

use super::elementwise::{typed, wrong_dtype};
use super::integer_conv::{ConvInputs, convolve, infer_conv};
use super::quant_parameters::{accumulators, narrowed, per_tensor, scales};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = requantize(conv(x - x_zero_point, w - w_zero_point) + bias)` with the multiplier `x_scale * w_scale / y_scale`.
///
/// Requantization is `clip(round(f32(acc) * multiplier) + zero_point)`, ties to even. Scale and zero point of w may be one
/// for each output channel; the bias is int32 with scale `x_scale * w_scale`.
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct QLinearConv;

impl Operator for QLinearConv {
    fn op_type(&self) -> &'static str {
        "QLinearConv"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_conv(ctx, 3, ctx.dtype(7))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let inputs = ConvInputs {
            x_zero_point: 2,
            weight: 3,
            weight_zero_point: 5,
        };
        let (mut sums, shape) = convolve(ctx, inputs)?;
        let oc = shape[1];
        let pixels = shape[2..].iter().product::<usize>().max(1);
        let channel = |i: usize| i / pixels % oc;
        if ctx.input(8).is_some() {
            let bias = of_length(8, typed::<i32>(ctx, 8)?.to_vec(), oc)?;
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += i64::from(bias[channel(i)]);
            }
        }
        let (x_scale, _) = per_tensor(ctx, 1, ctx.require(0)?.dtype())?;
        let w_scale = match scales(ctx, 4)? {
            scale if scale.len() == 1 => vec![scale[0]; oc],
            scale => of_length(4, scale, oc)?,
        };
        let dtype = ctx.require(7)?.dtype();
        let range = dtype
            .integer_range()
            .and_then(|(min, max)| Some((i32::try_from(min).ok()?, i32::try_from(max).ok()?)))
            .ok_or_else(|| wrong_dtype(7, "uint8 or int8", dtype))?;
        let (y_scale, zero_point) = per_tensor(ctx, 6, dtype)?;
        let q = accumulators(&sums)?.into_iter().enumerate().map(|(i, acc)| {
            let multiplier = x_scale * w_scale[channel(i)] / y_scale;
            Requantize::FloatScaleZeroPointAfter.apply(acc, multiplier, zero_point, range)
        });
        Ok(vec![narrowed(&shape, q.collect(), dtype)?])
    }
}

fn of_length<T>(idx: usize, values: Vec<T>, n: usize) -> Result<Vec<T>, OpError> {
    if values.len() == n {
        return Ok(values);
    }
    Err(OpError::input(
        idx,
        format!("wrong number of elements, expected {n}, got {}", values.len()),
    ))
}

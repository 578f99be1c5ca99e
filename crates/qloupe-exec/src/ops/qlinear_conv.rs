//! QLinearConv: the convolution of quantized numbers, requantized.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::integer_conv::{ConvInputs, IntegerConv, infer_conv};
use super::quant_parameters::{per_tensor, requantization, scales_for};
use crate::{
    EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext, Prepared,
};

/// `y = requantize(conv(x - x_zero_point, w - w_zero_point) + bias)` with the multiplier `x_scale * w_scale / y_scale`.
///
/// Requantization is `clip(round(f32(acc) * multiplier) + zero_point)`, ties to even. Scale and zero point of w may be one
/// for each output channel; the bias is int32 with scale `x_scale * w_scale`.
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct QLinearConv;

const INPUTS: ConvInputs = ConvInputs {
    weight: 3,
    weight_zero_point: 5,
    bias: Some(8),
};

impl Operator for QLinearConv {
    fn op_type(&self) -> &'static str {
        "QLinearConv"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_conv(ctx, 3, ctx.dtype(7), false)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let conv = IntegerConv::new(ctx.node, INPUTS, |idx| ctx.input(idx))?;
        convolve(&conv, ctx, ctx.layout == Layout::Nhwc)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let conv = IntegerConv::prepare(ctx, INPUTS)?;
        Ok(conv.map(|conv| Box::new(PreparedQLinearConv(conv)) as Box<dyn Prepared>))
    }
}

/// QLinearConv of com.microsoft: with `channels_last` 1, x and y are `[N, spatial.., C]`; w is as ever.
#[derive(Debug)]
pub(super) struct MicrosoftQLinearConv;

impl Operator for MicrosoftQLinearConv {
    fn op_type(&self) -> &'static str {
        "QLinearConv"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_conv(ctx, 3, ctx.dtype(7), ctx.node.int("channels_last") == Some(1))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let conv = IntegerConv::new(ctx.node, INPUTS, |idx| ctx.input(idx))?;
        convolve(&conv, ctx, ctx.int("channels_last", 0) == 1)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let conv = IntegerConv::prepare(ctx, INPUTS)?;
        Ok(conv.map(|conv| Box::new(PreparedMicrosoftQLinearConv(conv)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedQLinearConv(IntegerConv);

impl Prepared for PreparedQLinearConv {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        convolve(&self.0, ctx, ctx.layout == Layout::Nhwc)
    }
}

#[derive(Debug)]
struct PreparedMicrosoftQLinearConv(IntegerConv);

impl Prepared for PreparedMicrosoftQLinearConv {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        convolve(&self.0, ctx, ctx.int("channels_last", 0) == 1)
    }
}

fn convolve(conv: &IntegerConv, ctx: &EvalContext<'_>, channels_last: bool) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let (x_scale, x_zero_point) = per_tensor(ctx, 1, x.dtype())?;
    let w_scale = scales_for(ctx, 4, conv.n_outputs())?;
    let (epilogue, dtype) = requantization(ctx, 6, w_scale.iter().map(|w| x_scale * w))?;
    Ok(vec![conv.requantized(
        x,
        x_zero_point,
        channels_last,
        &epilogue,
        dtype,
    )?])
}

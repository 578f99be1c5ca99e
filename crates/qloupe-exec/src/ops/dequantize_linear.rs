//! DequantizeLinear: integers to the real numbers that they stand for.

use qloupe_kernels::{QuantizedSlice, dequantize};
use qloupe_tensor::{DType, Granularity, QuantParams, Tensor, dequantize_linear};

use super::broadcast::Broadcast;
use super::cast::cast;
use super::parameters::dtype_attribute;
use super::quant_parameters::linear_params;
use super::rows::Around;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `x = (q - zero_point) * scale`, of the dtype of the scale or `output_dtype`; computed in float32.
#[derive(Debug)]
pub(super) struct DequantizeLinear;

impl Operator for DequantizeLinear {
    fn op_type(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = dtype_attribute(ctx.node, "output_dtype")?.or(ctx.dtype(1));
        Ok(vec![Fact::new(dtype, ctx.require(0)?.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let q = ctx.require(0)?;
        let scale = cast(ctx.require(1)?, DType::Float32)?;
        let x = match scale.as_slice::<f32>() {
            Some(values) if values.iter().any(|s| s.is_finite() && *s < 0.0) => negative_scales(ctx, &scale)?,
            _ => dequantized(ctx, &linear_params(ctx, q.shape(), q.dtype())?)?,
        };
        let dtype = dtype_attribute(ctx.node, "output_dtype")?.unwrap_or(ctx.require(1)?.dtype());
        Ok(vec![cast(&x, dtype)?])
    }
}

/// Scales of which some are negative, as some quantizers of weights write them: `q` times the magnitude, then the sign.
fn negative_scales(ctx: &EvalContext<'_>, scale: &Tensor) -> Result<Tensor, OpError> {
    let q = ctx.require(0)?;
    let scale = scale.require::<f32>()?;
    let magnitudes = Tensor::new(ctx.require(1)?.shape(), scale.iter().map(|s| s.abs()).collect())?;
    let mut inputs = ctx.inputs.to_vec();
    inputs[1] = Some(&magnitudes);
    let positive = EvalContext {
        node: ctx.node,
        opset: ctx.opset,
        layout: ctx.layout,
        inputs: &inputs,
    };
    let params = linear_params(&positive, q.shape(), q.dtype())?;
    let mut x = dequantized(&positive, &params)?.into_vec::<f32>()?;
    for (i, x) in x.iter_mut().enumerate() {
        if scale[params.idx_of(i, q.shape())] < 0.0 {
            *x = -*x;
        }
    }
    Ok(Tensor::new(q.shape(), x)?)
}

/// The real numbers, as float32.
fn dequantized(ctx: &EvalContext<'_>, params: &QuantParams) -> Result<Tensor, OpError> {
    let q = ctx.require(0)?;
    let integers = match q.dtype() {
        DType::UInt8 => q.as_slice().map(QuantizedSlice::U8),
        DType::Int8 => q.as_slice().map(QuantizedSlice::I8),
        _ => None,
    };
    Ok(match (params.as_per_tensor(), integers) {
        (Some((scale, zero_point)), Some(integers)) => {
            let mut x = vec![0.0; q.len()];
            dequantize(integers, scale, zero_point, &mut x);
            Tensor::new(q.shape(), x)?
        }
        _ if q.dtype().integer_range().is_none() => scale_floats(q, params)?,
        _ => match params.granularity() {
            Granularity::PerChannel { axis } => dequantize_channels(q, params, axis)?,
            _ => dequantize_linear(q, params)?,
        },
    })
}

/// `q * scale` for floats of 4 and 8 bits.
fn scale_floats(q: &Tensor, params: &QuantParams) -> Result<Tensor, OpError> {
    let floats = cast(q, DType::Float32)?;
    let values = floats.require::<f32>()?.iter().enumerate();
    let scaled = values.map(|(i, v)| v * params.scale()[params.idx_of(i, q.shape())]);
    Ok(Tensor::new(q.shape(), scaled.collect())?)
}

/// `qloupe_tensor::dequantize_linear` for one scale per index of an axis, without index arithmetic per element.
fn dequantize_channels(q: &Tensor, params: &QuantParams, axis: usize) -> Result<Tensor, OpError> {
    let Around { outer, n, inner } = Around::axes(q.shape(), axis, axis + 1);
    let (scale, zero_point) = (params.scale(), params.zero_point());
    let integers = cast(q, DType::Int32)?;
    let integers = integers.require::<i32>()?;
    let plan = Broadcast::new([&[outer, n, inner], &[n, 1]])?;
    let x = plan.fill(|out: &mut [f32], [start, channel], [_, advances]| {
        for (i, (out, &q)) in out.iter_mut().zip(&integers[start..]).enumerate() {
            let channel = if advances { channel + i } else { channel };
            *out = (i64::from(q) - i64::from(zero_point[channel])) as f32 * scale[channel];
        }
    });
    Ok(Tensor::new(q.shape(), x)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_scale_turns_the_sign() {
        let node = qloupe_ir::Node::new("DequantizeLinear", "", &["q", "s"], &["x"])
            .with_attribute("axis", qloupe_ir::AttributeValue::Int(0));
        let q = Tensor::new(&[2, 2], vec![-3_i8, 5, -3, 5]).unwrap();
        let scale = Tensor::vector(vec![-0.5_f32, 0.5]);
        let ctx = EvalContext {
            node: &node,
            opset: 21,
            layout: crate::Layout::Plain,
            inputs: &[Some(&q), Some(&scale)],
        };
        let x = DequantizeLinear.eval(&ctx).unwrap();
        assert_eq!(x[0].as_slice::<f32>().unwrap(), [1.5, -2.5, -1.5, 2.5]);
    }

    #[test]
    fn channels_equal_the_specification_bit_for_bit() {
        let q = Tensor::new(&[2, 3, 5], (0..30).map(|i| (i * 7 - 100) as i8).collect()).unwrap();
        for (axis, n) in [(0, 2), (1, 3), (2, 5)] {
            let scale = (0..n).map(|c| 0.1 + c as f32 * 0.037).collect();
            let granularity = Granularity::PerChannel { axis };
            let params = QuantParams::new(DType::Int8, granularity, scale, (0..n).collect()).unwrap();
            let expected = dequantize_linear(&q, &params).unwrap();
            assert_eq!(
                dequantize_channels(&q, &params, axis).unwrap(),
                expected,
                "axis {axis}"
            );
        }
    }
}

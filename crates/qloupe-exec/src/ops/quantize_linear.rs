//! QuantizeLinear: real numbers to integers.

use qloupe_kernels::{QuantizedSliceMut, quantize};
use qloupe_tensor::{DType, QuantParams, Rounding, Tensor, quantize_linear};

use super::cast::{SmallFloatRule, cast, cast_by};
use super::elementwise::wrong_dtype;
use super::parameters::dtype_attribute;
use super::quant_parameters::linear_params;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `q = clip(round(x / scale) + zero_point)`, ties to even; one scale, one for each index of `axis`, or one for each block.
///
/// The arithmetic is that of `qloupe_tensor::quantize_linear`; x of another type is converted to float32 first. With
/// `precision` float16 or bfloat16 the quotient is rounded to that type. Floats of 4 and 8 bits are the quotient, cast
/// with `saturate`.
#[derive(Debug)]
pub(super) struct QuantizeLinear;

impl Operator for QuantizeLinear {
    fn op_type(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = match ctx.input(2) {
            Some(zero_point) => zero_point.dtype,
            None => Some(dtype_attribute(ctx.node, "output_dtype")?.unwrap_or(DType::UInt8)),
        };
        Ok(vec![Fact::new(dtype, ctx.require(0)?.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        if !x.dtype().is_float() && x.dtype() != DType::Int32 {
            return Err(wrong_dtype(0, "a floating-point type or int32", x.dtype()));
        }
        let dtype = match ctx.input(2) {
            Some(zero_point) => zero_point.dtype(),
            None => dtype_attribute(ctx.node, "output_dtype")?.unwrap_or(DType::UInt8),
        };
        let params = linear_params(ctx, x.shape(), dtype)?;
        let x = cast(x, DType::Float32)?;
        let q = match (dtype_attribute(ctx.node, "precision")?, dtype.integer_range()) {
            (None | Some(DType::Float32), Some(_)) => quantize_to(&x, &params)?,
            (None | Some(DType::Float32), None) => {
                let quotient = quotient(&x, &params)?;
                // A float4 zero point is added, which leaves its mark on -0 only.
                let quotient = if dtype == DType::Float4E2M1 && ctx.input(2).is_some() {
                    let shifted = quotient.require::<f32>()?.iter().map(|v| v + 0.0).collect();
                    Tensor::new(x.shape(), shifted)?
                } else {
                    quotient
                };
                cast_by(&quotient, dtype, SmallFloatRule::of(ctx)?)?
            }
            (Some(precision @ (DType::Float16 | DType::BFloat16)), range) => {
                let rounded = cast(&quotient(&x, &params)?, precision)?;
                if range.is_none() {
                    cast_by(&rounded, dtype, SmallFloatRule::of(ctx)?)?
                } else {
                    let (scale, zero_point) = (vec![1.0; params.scale().len()], params.zero_point().to_vec());
                    let unscaled = QuantParams::new(dtype, params.granularity(), scale, zero_point)?;
                    quantize_to(&cast(&rounded, DType::Float32)?, &unscaled)?
                }
            }
            (Some(other), _) => return Err(OpError::unsupported(format!("precision {other}"))),
        };
        Ok(vec![q])
    }
}

/// The integers of a float32 tensor.
fn quantize_to(x: &Tensor, params: &QuantParams) -> Result<Tensor, OpError> {
    let values = x.require::<f32>()?;
    Ok(match (params.as_per_tensor(), params.dtype()) {
        (Some((scale, zero_point)), DType::UInt8) => {
            let mut q = vec![0_u8; values.len()];
            quantize(values, scale, zero_point, QuantizedSliceMut::U8(&mut q));
            Tensor::new(x.shape(), q)?
        }
        (Some((scale, zero_point)), DType::Int8) => {
            let mut q = vec![0_i8; values.len()];
            quantize(values, scale, zero_point, QuantizedSliceMut::I8(&mut q));
            Tensor::new(x.shape(), q)?
        }
        _ => quantize_linear(x, params, Rounding::TiesEven)?,
    })
}

/// `x / scale` in float32.
fn quotient(x: &Tensor, params: &QuantParams) -> Result<Tensor, OpError> {
    let values = x.require::<f32>()?.iter().enumerate();
    let divided = values.map(|(i, v)| v / params.scale()[params.idx_of(i, x.shape())]);
    Ok(Tensor::new(x.shape(), divided.collect())?)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn the_axis_follows_the_layout() {
        let node = Node::new("QuantizeLinear", "", &["x", "s"], &["q"]);
        let x = Tensor::new(&[1, 1, 2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        let scale = Tensor::vector(vec![1.0_f32, 0.5]);
        let run = |layout, x: &Tensor| {
            let ctx = EvalContext {
                node: &node,
                opset: 13,
                layout,
                inputs: &[Some(x), Some(&scale)],
            };
            QuantizeLinear.eval(&ctx).map(|mut q| q.remove(0))
        };
        let q = run(Layout::Nhwc, &x).unwrap();
        assert_eq!(q.as_slice::<u8>().unwrap(), [1, 4, 3, 8]);
        let plain = Tensor::new(&[1, 2, 2, 1], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(
            run(Layout::Plain, &plain).unwrap().as_slice::<u8>().unwrap(),
            [1, 2, 6, 8]
        );
        assert_eq!(
            run(Layout::Plain, &x).unwrap_err().to_string(),
            "per_channel(axis 1) with 2 scales does not fit shape [1, 1, 2, 2]"
        );
    }
}

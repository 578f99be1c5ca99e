//! QuantizeLinear: real numbers to integers.

use qloupe_kernels::{QuantizedSliceMut, quantize};
use qloupe_tensor::{DType, Rounding, Tensor, quantize_linear};

use super::cast::cast;
use super::elementwise::wrong_dtype;
use super::quant_parameters::{dtype_attribute, linear_params};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `q = clip(round(x / scale) + zero_point)`, ties to even; one scale, one for each index of `axis`, or one for each block.
///
/// The arithmetic is that of `qloupe_tensor::quantize_linear`; x of another type is converted to float32 first.
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
            None => Some(dtype_attribute(ctx.node.int("output_dtype"))?.unwrap_or(DType::UInt8)),
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
            None => dtype_attribute(ctx.node.int("output_dtype"))?.unwrap_or(DType::UInt8),
        };
        let params = linear_params(ctx, x.shape(), dtype)?;
        let x = cast(x, DType::Float32)?;
        let values = x.require::<f32>()?;
        let q = match (params.as_per_tensor(), dtype) {
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
            _ => quantize_linear(&x, &params, Rounding::TiesEven)?,
        };
        Ok(vec![q])
    }
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

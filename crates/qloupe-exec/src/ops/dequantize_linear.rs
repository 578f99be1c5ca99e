//! DequantizeLinear: integers to the real numbers that they stand for.

use qloupe_kernels::{QuantizedSlice, dequantize};
use qloupe_tensor::{DType, Tensor, dequantize_linear};

use super::cast::cast;
use super::quant_parameters::{dtype_attribute, linear_params};
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
        let dtype = dtype_attribute(ctx.node.int("output_dtype"))?.or(ctx.dtype(1));
        Ok(vec![Fact::new(dtype, ctx.require(0)?.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let q = ctx.require(0)?;
        let params = linear_params(ctx, q.shape(), q.dtype())?;
        let integers = match q.dtype() {
            DType::UInt8 => q.as_slice().map(QuantizedSlice::U8),
            DType::Int8 => q.as_slice().map(QuantizedSlice::I8),
            _ => None,
        };
        let x = match (params.as_per_tensor(), integers) {
            (Some((scale, zero_point)), Some(integers)) => {
                let mut x = vec![0.0; q.len()];
                dequantize(integers, scale, zero_point, &mut x);
                Tensor::new(q.shape(), x)?
            }
            _ => dequantize_linear(q, &params)?,
        };
        let dtype = dtype_attribute(ctx.node.int("output_dtype"))?.unwrap_or(ctx.require(1)?.dtype());
        Ok(vec![cast(&x, dtype)?])
    }
}

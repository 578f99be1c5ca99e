//! com.microsoft.DynamicQuantizeMatMul: quantizes by the range of the data, then multiplies in integers.

use qloupe_tensor::{DType, Tensor};

use super::composed::MICROSOFT;
use super::dynamic_quantize_linear::quantize_by_range;
use super::elementwise::typed;
use super::integer_matrix::IntegerMatrix;
use super::matrix_product::infer_product;
use super::scaled_product::scaled_product;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `y = f32((q - zero_point) * (b - b_zero_point)) * (scale * b_scale) + bias` with q, scale and zero point of
/// DynamicQuantizeLinear of a.
#[derive(Debug)]
pub(super) struct DynamicQuantizeMatMul;

impl Operator for DynamicQuantizeMatMul {
    fn op_type(&self) -> &'static str {
        "DynamicQuantizeMatMul"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(infer_product(a, b, 1)?),
            _ => None,
        };
        Ok(vec![Fact::new(Some(DType::Float32), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(
            &IntegerMatrix::new(1, ctx.require(1)?, (3, ctx.input(3)), None)?,
            ctx,
        )
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let b = IntegerMatrix::prepare(ctx, 1, 3)?;
        Ok(b.map(|b| Box::new(PreparedProduct(b)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedProduct(IntegerMatrix);

impl Prepared for PreparedProduct {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(&self.0, ctx)
    }
}

fn multiply(b: &IntegerMatrix, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let (q, scale, zero_point) = quantize_by_range(typed::<f32>(ctx, 0)?);
    let a = Tensor::new(ctx.require(0)?.shape(), q)?;
    Ok(vec![scaled_product(
        ctx,
        &a,
        (scale, i32::from(zero_point)),
        b,
        (2, 4),
    )?])
}

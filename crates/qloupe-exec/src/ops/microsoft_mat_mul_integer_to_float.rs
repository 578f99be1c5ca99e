//! com.microsoft.MatMulIntegerToFloat: the matrix product of 8-bit integers as real numbers.

use qloupe_tensor::{DType, Tensor};

use super::composed::MICROSOFT;
use super::elementwise::scalar;
use super::integer_matrix::IntegerMatrix;
use super::matrix_product::infer_product;
use super::quant_parameters::activation_zero_point;
use super::scaled_product::scaled_product;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `y = f32((a - a_zero_point) * (b - b_zero_point)) * (a_scale * b_scale) + bias`; scale and zero point of b may be one
/// for each column.
#[derive(Debug)]
pub(super) struct MatMulIntegerToFloat;

impl Operator for MatMulIntegerToFloat {
    fn op_type(&self) -> &'static str {
        "MatMulIntegerToFloat"
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
            &IntegerMatrix::new(1, ctx.require(1)?, (5, ctx.input(5)), None)?,
            ctx,
        )
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let b = IntegerMatrix::prepare(ctx, 1, 5)?;
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
    let a = ctx.require(0)?;
    let a_params = (scalar::<f32>(ctx, 2)?, activation_zero_point(ctx, 4, a)?);
    Ok(vec![scaled_product(ctx, a, a_params, b, (3, 6))?])
}

//! MatMulInteger: the matrix product of 8-bit integers as int32.

use qloupe_tensor::{DType, Tensor};

use super::integer_matrix::{IntegerMatrix, Sums};
use super::matrix_product::infer_product;
use super::quant_parameters::activation_zero_points;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `y = (a - a_zero_point) * (b - b_zero_point)`, exact; a zero point may be one for each row of a or column of b.
///
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct MatMulInteger;

impl Operator for MatMulInteger {
    fn op_type(&self) -> &'static str {
        "MatMulInteger"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(infer_product(a, b, 1)?),
            _ => None,
        };
        Ok(vec![Fact::new(Some(DType::Int32), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(
            &IntegerMatrix::new(1, ctx.require(1)?, (3, ctx.input(3)), None)?,
            ctx,
        )
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let b = IntegerMatrix::prepare(ctx, 1, 3)?;
        Ok(b.map(|b| Box::new(PreparedMatMulInteger(b)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedMatMulInteger(IntegerMatrix);

impl Prepared for PreparedMatMulInteger {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(&self.0, ctx)
    }
}

fn multiply(b: &IntegerMatrix, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let a = ctx.require(0)?;
    let Sums { sums, product } = b.sums(a, &activation_zero_points(ctx, 2, a)?)?;
    Ok(vec![Tensor::new(&product.output, sums)?])
}

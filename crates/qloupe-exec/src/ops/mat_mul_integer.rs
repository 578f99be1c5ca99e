//! MatMulInteger: the matrix product of 8-bit integers as int32.

use qloupe_tensor::{DType, Tensor};

use super::matrix_product::{MatrixProduct, infer_product};
use super::quant_parameters::{accumulators, centered};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

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
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let product = MatrixProduct::new(a.shape(), b.shape(), 1)?;
        let left = centered(ctx, 0, 2, a.rank().saturating_sub(2))?;
        let right = centered(ctx, 1, 3, b.rank() - 1)?;
        let sums = accumulators(&product.compute(&left, &right))?;
        Ok(vec![Tensor::new(&product.output, sums)?])
    }
}

//! QLinearMatMul: the matrix product of quantized numbers, requantized.

use qloupe_tensor::Tensor;

use super::integer_matrix::{IntegerMatrix, Sums};
use super::matrix_product::infer_product;
use super::quant_parameters::{activation_zero_points, requantization, scales};
use crate::integer::write_quantized;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `y = requantize((a - a_zero_point) * (b - b_zero_point))` with the multiplier `a_scale * b_scale / y_scale`.
///
/// Requantization is `clip(round(f32(acc) * multiplier) + zero_point)`, ties to even. The scale of a may be one for each
/// row, that of b one for each column, both also for each matrix of a batch.
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct QLinearMatMul;

impl Operator for QLinearMatMul {
    fn op_type(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (ctx.require(0)?, ctx.require(3)?);
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(infer_product(a, b, 3)?),
            _ => None,
        };
        Ok(vec![Fact::new(ctx.dtype(7), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(
            &IntegerMatrix::new(3, ctx.require(3)?, (5, ctx.input(5)), None)?,
            ctx,
        )
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let b = IntegerMatrix::prepare(ctx, 3, 5)?;
        Ok(b.map(|b| Box::new(PreparedQLinearMatMul(b)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedQLinearMatMul(IntegerMatrix);

impl Prepared for PreparedQLinearMatMul {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(&self.0, ctx)
    }
}

fn multiply(b: &IntegerMatrix, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let a = ctx.require(0)?;
    let zero_points = activation_zero_points(ctx, 2, a)?;
    let (a_scale, b_scale) = (scales(ctx, 1)?, scales(ctx, 4)?);
    let n = b.n_columns();
    if let ([a_scale], [zero_point], true) = (
        a_scale.as_slice(),
        zero_points.as_slice(),
        b_scale.len() == 1 || b_scale.len() == n,
    ) {
        let (epilogue, dtype) = requantization(ctx, 6, b_scale.iter().map(|b| a_scale * b))?;
        return Ok(vec![b.requantized(a, *zero_point, &epilogue, dtype)?]);
    }
    let Sums { sums, product } = b.sums(a, &zero_points)?;
    let (m, k, n) = (product.m.max(1), product.k.max(1), product.n.max(1));
    let rows = a.len() / k;
    let fits = |idx: usize, got: usize, per_matrix: usize, all: usize| {
        if got == 1 || got == per_matrix || got == all {
            return Ok(());
        }
        Err(OpError::input(
            idx,
            format!("wrong number of scales, expected 1 or {per_matrix}, got {got}"),
        ))
    };
    fits(1, a_scale.len(), m, rows)?;
    fits(4, b_scale.len(), n, b.n_matrices() * n)?;
    // One multiplier for each sum: rows and columns of the matrices that made it.
    let real = product.offsets.iter().flat_map(|&(a_offset, b_offset)| {
        let (row, column) = (a_offset / k, b_offset / k);
        let (a_scale, b_scale) = (&a_scale, &b_scale);
        (0..m * n)
            .map(move |i| a_scale[(row + i / n) % a_scale.len()] * b_scale[(column + i % n) % b_scale.len()])
    });
    let (epilogue, dtype) = requantization(ctx, 6, real)?;
    let y = write_quantized(dtype, &product.output, |mut out| {
        epilogue.apply(&sums, sums.len(), &mut out);
        Ok(())
    })?;
    Ok(vec![y])
}

//! QLinearMatMul: the matrix product of quantized numbers, requantized.

use qloupe_tensor::{Requantize, Tensor};

use super::elementwise::wrong_dtype;
use super::matrix_product::{MatrixProduct, infer_product};
use super::quant_parameters::{accumulators, centered, narrowed, per_tensor, scales};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = requantize((a - a_zero_point) * (b - b_zero_point))` with the multiplier `a_scale * b_scale / y_scale`.
///
/// Requantization is `clip(round(f32(acc) * multiplier) + zero_point)`, ties to even. The scale of a may be one for each
/// row, that of b one for each column.
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
        let (a, b) = (ctx.require(0)?, ctx.require(3)?);
        let product = MatrixProduct::new(a.shape(), b.shape(), 3)?;
        let left = centered(ctx, 0, 2, a.rank().saturating_sub(2))?;
        let right = centered(ctx, 3, 5, b.rank() - 1)?;
        let (a_scale, b_scale) = (scales_for(ctx, 1, product.m)?, scales_for(ctx, 4, product.n)?);
        let dtype = ctx.require(7)?.dtype();
        let (min, max) = dtype
            .integer_range()
            .and_then(|(min, max)| Some((i32::try_from(min).ok()?, i32::try_from(max).ok()?)))
            .ok_or_else(|| wrong_dtype(7, "uint8 or int8", dtype))?;
        let (y_scale, zero_point) = per_tensor(ctx, 6, dtype)?;
        let sums = accumulators(&product.compute(&left, &right))?;
        let (m, n) = (product.m.max(1), product.n.max(1));
        let pick = |scales: &[f32], i: usize| scales[if scales.len() == 1 { 0 } else { i }];
        let q = sums.into_iter().enumerate().map(|(i, acc)| {
            let multiplier = pick(&a_scale, i / n % m) * pick(&b_scale, i % n) / y_scale;
            Requantize::FloatScaleZeroPointAfter.apply(acc, multiplier, zero_point, (min, max))
        });
        Ok(vec![narrowed(&product.output, q.collect(), dtype)?])
    }
}

fn scales_for(ctx: &EvalContext<'_>, idx: usize, n: usize) -> Result<Vec<f32>, OpError> {
    let scale = scales(ctx, idx)?;
    if scale.len() == 1 || scale.len() == n {
        return Ok(scale);
    }
    Err(OpError::input(
        idx,
        format!("wrong number of scales, expected 1 or {n}, got {}", scale.len()),
    ))
}

//! A matrix product whose left-hand side is quantized by its range at every call.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::dynamic_quantize_linear::quantize_by_range;
use super::integer_matrix::IntegerMatrix;
use super::movement::{Run, copy_runs};
use super::quant_parameters::scales;
use crate::{EvalContext, OpError};

/// `x -> f32((q - zero_point) * (w - w_zero_point)) * (scale * w_scale) + bias` with q, scale and zero point of
/// DynamicQuantizeLinear of x.
#[derive(Debug)]
pub(super) struct DynamicProduct {
    matrix: IntegerMatrix,
    k: usize,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl DynamicProduct {
    /// The matrix of one direction of input `idx`, `[directions, k, n]`; its scales are input `scale_idx`, its zero points
    /// the next one, both `[directions]` or `[directions, n]`.
    ///
    /// # Errors
    /// Dtypes, scales or zero points that do not fit.
    pub(super) fn of_direction(
        ctx: &EvalContext<'_>,
        (idx, scale_idx): (usize, usize),
        direction: usize,
        bias: &[f32],
    ) -> Result<Self, OpError> {
        let weight = ctx.require(idx)?;
        let &[n_directions, k, n] = weight.shape() else {
            return Err(OpError::input(
                idx,
                format!("wrong rank, expected 3, got {}", weight.rank()),
            ));
        };
        let part = |tensor: &Tensor, shape: &[usize]| {
            let len = shape.iter().product();
            copy_runs(&[tensor], shape, [Run::contiguous(direction * len, len)])
        };
        let per_direction = |idx: usize, len: usize| {
            if len == n_directions || len == n_directions * n {
                return Ok(len / n_directions.max(1));
            }
            Err(OpError::input(
                idx,
                format!("wrong number of elements, expected {n_directions} or {n} times as many, got {len}"),
            ))
        };
        let all = scales(ctx, scale_idx)?;
        let n_scales = per_direction(scale_idx, all.len())?;
        let zero_point_idx = scale_idx + 1;
        let zero_point = match ctx.input(zero_point_idx) {
            Some(all) => {
                let len = per_direction(zero_point_idx, all.len())?;
                Some(cast(&part(all, &[len])?, weight.dtype())?)
            }
            None => None,
        };
        let zero_point = (zero_point_idx, zero_point.as_ref());
        Ok(Self {
            matrix: IntegerMatrix::new(idx, &part(weight, &[k, n])?, zero_point, None)?,
            k,
            scale: all[direction * n_scales..][..n_scales].to_vec(),
            bias: bias.to_vec(),
        })
    }

    /// The product for `rows` rows of x.
    ///
    /// # Errors
    /// A sum that int32 does not hold.
    pub(super) fn run(&self, x: &[f32], rows: usize) -> Result<Vec<f32>, OpError> {
        let (q, scale, zero_point) = quantize_by_range(x);
        let q = Tensor::new(&[rows, self.k], q)?;
        let sums = self.matrix.sums(&q, &[i32::from(zero_point)])?.sums;
        let multiplier: Vec<f32> = self.scale.iter().map(|weight| scale * weight).collect();
        let n = self.bias.len().max(1);
        let real =
            |(i, &sum): (usize, &i32)| sum as f32 * multiplier[i % n % multiplier.len()] + self.bias[i % n];
        Ok(sums.iter().enumerate().map(real).collect())
    }
}

//! Normalization of groups of elements: mean, variance and the loop that LayerNormalization and its kin share.
//!
//! # Numerics
//! Statistics and results are computed in f64 from basic operations and round once. A sum has eight interleaved partial
//! sums, added as a fixed tree: the same bits on any machine and any number of threads.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::elementwise::{FLOATS, map, wrong_dtype};
use super::rows::for_each_row;
use crate::{EvalContext, OpError};

const LANES: usize = 8;

/// The sum of `f(x)`.
pub(super) fn sum_of(x: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f(x);
    }
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    let [a, b, c, d, e, g, h, i] = lanes;
    ((a + b) + (c + d)) + ((e + g) + (h + i))
}

/// Mean and variance (over n, not n - 1).
pub(super) fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = sum_of(x, |v| v) / n;
    (mean, sum_of(x, |v| (v - mean) * (v - mean)) / n)
}

/// Subtracts the mean and divides by `sqrt(variance + epsilon)`; gives the mean and the inverse of the divisor.
pub(super) fn standardize(row: &mut [f64], epsilon: f64) -> (f64, f64) {
    let (mean, variance) = mean_and_variance(row);
    let inverse = 1.0 / (variance + epsilon).sqrt();
    row.iter_mut().for_each(|v| *v = (*v - mean) * inverse);
    (mean, inverse)
}

/// The elements of a floating-point input.
///
/// # Errors
/// An absent input, a dtype that is not floating-point.
pub(super) fn floats(ctx: &EvalContext<'_>, idx: usize) -> Result<Vec<f64>, OpError> {
    let x = ctx.require(idx)?;
    if !x.dtype().is_float() {
        return Err(wrong_dtype(idx, FLOATS, x.dtype()));
    }
    Ok(x.to_f64_vec()?)
}

/// The elements of a floating-point input that must have a number of elements.
///
/// # Errors
/// An absent input, another dtype or number of elements.
pub(super) fn floats_of_length(ctx: &EvalContext<'_>, idx: usize, len: usize) -> Result<Vec<f64>, OpError> {
    let values = floats(ctx, idx)?;
    if values.len() == len {
        return Ok(values);
    }
    Err(OpError::input(
        idx,
        format!("wrong number of elements, expected {len}, got {}", values.len()),
    ))
}

/// Applies `f` to every row of `n` elements, in place.
pub(super) fn each_row(values: &mut [f64], n: usize, f: impl Fn(usize, &mut [f64]) + Sync) {
    let work = values.len();
    for_each_row(values, n, work, &f);
}

/// A tensor of a floating-point dtype.
///
/// # Errors
/// A shape that does not fit.
pub(super) fn rounded(shape: &[usize], values: Vec<f64>, dtype: DType) -> Result<Tensor, OpError> {
    if dtype == DType::Float32 {
        return Ok(Tensor::new(shape, map(&values, |v| v as f32))?);
    }
    cast(&Tensor::new(shape, values)?, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_counted_once() {
        for n in [1, 7, 8, 9, 30] {
            let x: Vec<f64> = (1..=n).map(f64::from).collect();
            let total = f64::from(n * (n + 1) / 2);
            assert!((sum_of(&x, |v| v) - total).abs() < f64::EPSILON, "sum of 1..={n}");
        }
        let (mean, variance) = mean_and_variance(&[1.0, 3.0]);
        assert_eq!(format!("{mean} {variance}"), "2 1");
    }
}

//! Pullbacks of LayerNormalization and its kin: rows that are standardized and scaled.

use qloupe_tensor::Tensor;

use super::normalization::{each_row, rounded, standardize, sum_of};
use crate::{OpError, Pullback};

/// What is subtracted from the elements of a row before they are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Center {
    /// Their mean.
    Mean,
    /// Nothing: the divisor is the root of the mean of the squares.
    Zero,
}

/// The pullback of `scale * (x - mean) / sqrt(variance + epsilon)` over rows of `n` elements; `scale` is a function of the
/// row and the place in it.
///
/// With `h = scale * dy` and the standardized `z`: `dx = (h - mean(h) - z * mean(h * z)) / divisor`.
///
/// # Errors
/// Another type than a number.
pub(super) fn standardized<'a>(
    x: &Tensor,
    n: usize,
    epsilon: f64,
    center: Center,
    scale: impl Fn(usize, usize) -> f64 + Send + Sync + 'a,
) -> Result<Pullback<'a>, OpError> {
    let n = n.max(1);
    let mut standard = x.to_f64_vec()?;
    let inverses: Vec<f64> = standard
        .chunks_mut(n)
        .map(|row| match center {
            Center::Mean => standardize(row, epsilon).1,
            Center::Zero => {
                let squares = sum_of(row, |v| v * v) / row.len() as f64;
                let inverse = 1.0 / (squares + epsilon).sqrt();
                row.iter_mut().for_each(|v| *v *= inverse);
                inverse
            }
        })
        .collect();
    Ok(Pullback::of_first(move |gradient| {
        let mut values = gradient.to_f64_vec()?;
        each_row(&mut values, n, |row_idx, row| {
            let standard = &standard[row_idx * n..][..row.len()];
            for (i, v) in row.iter_mut().enumerate() {
                *v *= scale(row_idx, i);
            }
            let len = row.len() as f64;
            let mean = match center {
                Center::Mean => sum_of(row, |v| v) / len,
                Center::Zero => 0.0,
            };
            let along = row.iter().zip(standard).fold(0.0, |sum, (v, z)| sum + v * z) / len;
            for (v, z) in row.iter_mut().zip(standard) {
                *v = (*v - mean - z * along) * inverses[row_idx];
            }
        });
        rounded(gradient.shape(), values, gradient.dtype())
    }))
}

//! The discrete Fourier transform of one row, of any length.

use std::f64::consts::TAU;

use qloupe_tensor::Tensor;

use super::elementwise::{FLOATS, wrong_dtype};
use super::movement::reserved;
use crate::OpError;

/// Real and imaginary part.
pub(super) type Complex = [f64; 2];

/// `y[k] = sum of x[n] * e^(-2 pi i k n / N)`; the inverse has the other sign and is divided by `N`.
///
/// A length is split by its smallest prime factor again and again, so that the work is `N` times the sum of the prime
/// factors. All arithmetic is f64 in a fixed order.
#[derive(Debug)]
pub(super) struct Fourier {
    /// `e^(-2 pi i k / N)`, or its conjugate for the inverse.
    roots: Vec<Complex>,
    inverse: bool,
}

impl Fourier {
    /// A transform of `n` elements.
    ///
    /// # Errors
    /// No elements, or more than memory can hold.
    pub(super) fn new(n: usize, inverse: bool) -> Result<Self, OpError> {
        if n == 0 {
            return Err(OpError::unsupported("a Fourier transform of no elements"));
        }
        let sign = if inverse { 1.0 } else { -1.0 };
        let mut roots = reserved(n)?;
        roots.extend((0..n).map(|k| {
            let (sin, cos) = (TAU * k as f64 / n as f64).sin_cos();
            [cos, sign * sin]
        }));
        Ok(Self { roots, inverse })
    }

    /// The transform of a row of the length given at the start.
    pub(super) fn transform(&self, row: &[Complex]) -> Vec<Complex> {
        let mut y = self.split(row, 0, 1, row.len());
        if self.inverse {
            let n = row.len() as f64;
            y.iter_mut().for_each(|[re, im]| (*re, *im) = (*re / n, *im / n));
        }
        y
    }

    /// The transform of the `n` elements `start, start + stride, ..`; `stride * n` is the length of the row.
    fn split(&self, row: &[Complex], start: usize, stride: usize, n: usize) -> Vec<Complex> {
        if n == 1 {
            return vec![row[start]];
        }
        let factor = smallest_prime_factor(n);
        let part = n / factor;
        let parts: Vec<Vec<Complex>> = (0..factor)
            .map(|r| self.split(row, start + r * stride, stride * factor, part))
            .collect();
        let sum = |k: usize| {
            parts.iter().enumerate().fold([0.0; 2], |sum, (r, part)| {
                let [re, im] = part[k % part.len()];
                let [cos, sin] = self.roots[r * k % n * stride];
                [sum[0] + (re * cos - im * sin), sum[1] + (re * sin + im * cos)]
            })
        };
        (0..n).map(sum).collect()
    }
}

fn smallest_prime_factor(n: usize) -> usize {
    (2..)
        .take_while(|factor| factor * factor <= n)
        .find(|&factor| n.is_multiple_of(factor))
        .unwrap_or(n)
}

/// The elements of a tensor whose last axis is `[real]` or `[real, imaginary]`.
///
/// # Errors
/// A dtype that is not floating-point, another last axis.
pub(super) fn complex_elements(x: &Tensor, idx: usize) -> Result<Vec<Complex>, OpError> {
    if !x.dtype().is_float() {
        return Err(wrong_dtype(idx, FLOATS, x.dtype()));
    }
    let values = x.to_f64_vec()?;
    match x.shape().last() {
        Some(1) => Ok(values.into_iter().map(|re| [re, 0.0]).collect()),
        Some(2) => Ok(values.as_chunks::<2>().0.to_vec()),
        _ => Err(OpError::input(
            idx,
            format!(
                "wrong shape, expected a last axis of 1 (real) or 2 (complex), got {:?}",
                x.shape()
            ),
        )),
    }
}

/// Half a spectrum: the number of elements that are not the conjugate of another one, for a real signal.
pub(super) fn one_sided(n: usize) -> usize {
    n / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition.
    fn slow(row: &[Complex]) -> Vec<Complex> {
        let n = row.len();
        (0..n)
            .map(|k| {
                row.iter().enumerate().fold([0.0; 2], |sum, (i, [re, im])| {
                    let (sin, cos) = (-TAU * (i * k % n) as f64 / n as f64).sin_cos();
                    [sum[0] + re * cos - im * sin, sum[1] + re * sin + im * cos]
                })
            })
            .collect()
    }

    #[test]
    fn every_length_agrees_with_the_definition_and_comes_back() {
        const TOLERANCE: f64 = 1e-11;
        let close = |a: &[Complex], b: &[Complex]| {
            a.len() == b.len()
                && a.iter()
                    .flatten()
                    .zip(b.iter().flatten())
                    .all(|(a, b)| (a - b).abs() < TOLERANCE)
        };
        for n in [1, 2, 3, 4, 7, 12, 16, 30, 97, 100] {
            let row: Vec<Complex> = (0..n)
                .map(|i| [(i * 7 % 11) as f64 - 5.0, (i * 3 % 5) as f64])
                .collect();
            let y = Fourier::new(n, false).unwrap().transform(&row);
            assert!(close(&y, &slow(&row)), "{n} elements");
            assert!(
                close(&Fourier::new(n, true).unwrap().transform(&y), &row),
                "{n} elements back"
            );
        }
        assert_eq!(
            Fourier::new(0, false).unwrap_err().to_string(),
            "a Fourier transform of no elements is not supported"
        );
    }
}

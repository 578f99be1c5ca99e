//! Det: determinants of square matrices.

use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The determinant of each matrix in the last two axes, by elimination with row pivots in f64.
#[derive(Debug)]
pub(super) struct Det;

fn determinant(mut matrix: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for k in 0..n {
        let larger = |a: &usize, b: &usize| matrix[a * n + k].abs().total_cmp(&matrix[b * n + k].abs());
        // The first of the largest, so that equal candidates give the same bits everywhere.
        let pivot = (k..n).rev().max_by(larger).unwrap_or(k);
        if pivot != k {
            (0..n).for_each(|j| matrix.swap(pivot * n + j, k * n + j));
            product = -product;
        }
        let head = matrix[k * n + k];
        product *= head;
        if head == 0.0 {
            return product;
        }
        for i in k + 1..n {
            let factor = matrix[i * n + k] / head;
            for j in k..n {
                matrix[i * n + j] -= factor * matrix[k * n + j];
            }
        }
    }
    product
}

impl Operator for Det {
    fn op_type(&self) -> &'static str {
        "Det"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = x.shape.as_ref().map(|s| s[..s.len().saturating_sub(2)].to_vec());
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (outer, n) = match x.shape() {
            [outer @ .., rows, columns] if rows == columns => (outer, *rows),
            other => {
                return Err(OpError::input(
                    0,
                    format!("not square matrices, expected [.., n, n], got {other:?}"),
                ));
            }
        };
        let values = to_float32(x, 0)?;
        let n_matrices = outer.iter().product();
        let of = |i: usize| {
            let matrix = values[i * n * n..][..n * n].iter().map(|&v| f64::from(v));
            determinant(matrix.collect(), n) as f32
        };
        let y = (0..n_matrices).map(of).collect();
        Ok(vec![from_float32(x.dtype(), outer, y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_determinants() {
        let matrices = [vec![0.0, 1.0, 2.0, 3.0], vec![1.0, 2.0, 2.0, 4.0], vec![7.0]];
        let determinants: Vec<f64> = matrices
            .into_iter()
            .zip([2, 2, 1])
            .map(|(m, n)| determinant(m, n))
            .collect();
        assert_eq!(determinants, [-2.0, 0.0, 7.0]);
    }
}

//! Shapes of matrix products: ranks, batches that broadcast, and the loop for types without a kernel.

use qloupe_tensor::n_elements;

use super::broadcast::{Broadcast, broadcast_dims};
use super::number::Number;
use super::rows::for_each_row;
use crate::{OpError, SymDim};

/// `[.., m, k] * [.., k, n]` with broadcast batches; a rank-1 operand is a row on the left, a column on the right.
#[derive(Debug)]
pub(crate) struct MatrixProduct {
    /// Rows of the left matrix.
    pub(crate) m: usize,
    /// The length of the sums.
    pub(crate) k: usize,
    /// Columns of the right matrix.
    pub(crate) n: usize,
    /// For each product, where its left and its right matrix start.
    pub(crate) offsets: Vec<(usize, usize)>,
    /// The shape of the result.
    pub(crate) output: Vec<usize>,
}

impl MatrixProduct {
    /// The products of two shapes; `idx_b` is the input that holds the right matrix, for messages.
    ///
    /// # Errors
    /// Rank 0, sums of different lengths, batches that do not broadcast.
    pub(crate) fn new(a: &[usize], b: &[usize], idx_b: usize) -> Result<Self, OpError> {
        let (batch_a, m, k) = match *a {
            [] => return Err(rank_0(0)),
            [k] => (&a[..0], 1, k),
            [ref batch @ .., m, k] => (batch, m, k),
        };
        let (batch_b, rows, n) = match *b {
            [] => return Err(rank_0(idx_b)),
            [k] => (&b[..0], k, 1),
            [ref batch @ .., k, n] => (batch, k, n),
        };
        if rows != k {
            return Err(OpError::input(
                idx_b,
                format!("wrong number of rows, expected {k} for {a:?}, got {rows} in {b:?}"),
            ));
        }
        let plan = Broadcast::new([batch_a, batch_b]).map_err(|_| {
            OpError::input(
                idx_b,
                format!("batch does not broadcast, expected one that fits {batch_a:?}, got {batch_b:?}"),
            )
        })?;
        let offsets = plan.fill(|out: &mut [(usize, usize)], [i, j], [p, q]| {
            for (step, out) in out.iter_mut().enumerate() {
                let at = |start: usize, advances: bool| if advances { start + step } else { start };
                *out = (at(i, p) * m * k, at(j, q) * k * n);
            }
        });
        let mut output = plan.shape().to_vec();
        output.extend((a.len() > 1).then_some(m));
        output.extend((b.len() > 1).then_some(n));
        if n_elements(&output).is_none() {
            return Err(OpError::input(
                idx_b,
                format!("the result of shape {output:?} has more elements than memory can hold"),
            ));
        }
        Ok(Self {
            m,
            k,
            n,
            offsets,
            output,
        })
    }

    /// Every product, each element an in-order chain of `acc + a * b`.
    pub(super) fn compute<T: Number>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let Self { m, k, n, .. } = *self;
        let mut out = vec![T::ZERO; self.offsets.len() * m * n];
        let work = out.len().saturating_mul(k);
        for_each_row(&mut out, n, work, &|row, out| {
            let (a_offset, b_offset) = self.offsets[row / m];
            let a = &a[a_offset + row % m * k..][..k];
            for (i, &a) in a.iter().enumerate() {
                for (out, &b) in out.iter_mut().zip(&b[b_offset + i * n..][..n]) {
                    *out = out.plus(a.times(b));
                }
            }
        });
        out
    }
}

fn rank_0(idx: usize) -> OpError {
    OpError::input(idx, "wrong rank, expected at least 1, got 0")
}

/// The shape of a product, as far as it is known.
///
/// # Errors
/// As [`MatrixProduct::new`], where the dimensions are known.
pub(super) fn infer_product(a: &[SymDim], b: &[SymDim], idx_b: usize) -> Result<Vec<SymDim>, OpError> {
    if a.is_empty() || b.is_empty() {
        return Err(rank_0(if a.is_empty() { 0 } else { idx_b }));
    }
    let (k, rows) = (&a[a.len() - 1], &b[b.len().saturating_sub(2)]);
    if let (Some(k), Some(rows)) = (k.as_known(), rows.as_known())
        && k != rows
    {
        return Err(OpError::input(
            idx_b,
            format!("wrong number of rows, expected {k}, got {rows}"),
        ));
    }
    let batch = |shape: &[SymDim]| shape[..shape.len().saturating_sub(2)].to_vec();
    let mut output = broadcast_dims(&[&batch(a), &batch(b)]).map_err(|error| match error {
        OpError::Input { what, .. } => OpError::input(idx_b, what),
        other => other,
    })?;
    output.extend((a.len() > 1).then(|| a[a.len() - 2].clone()));
    output.extend((b.len() > 1).then(|| b[b.len() - 1].clone()));
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_batches() {
        struct Case {
            a: &'static [usize],
            b: &'static [usize],
            output: Result<&'static [usize], &'static str>,
        }
        let case = |a, b, output| Case { a, b, output };
        let cases = [
            case(&[2, 3], &[3, 4], Ok(&[2, 4])),
            case(&[3], &[3], Ok(&[])),
            case(&[3], &[5, 3, 4], Ok(&[5, 4])),
            case(&[5, 2, 3], &[3], Ok(&[5, 2])),
            case(&[5, 1, 2, 3], &[7, 3, 4], Ok(&[5, 7, 2, 4])),
            case(
                &[2, 3],
                &[4, 5],
                Err("input 1: wrong number of rows, expected 3 for [2, 3], got 4 in [4, 5]"),
            ),
            case(
                &[2, 1, 3],
                &[3, 3, 1],
                Err("input 1: batch does not broadcast, expected one that fits [2], got [3]"),
            ),
            case(&[], &[3], Err("input 0: wrong rank, expected at least 1, got 0")),
        ];
        for Case { a, b, output } in cases {
            let got = MatrixProduct::new(a, b, 1)
                .map(|p| p.output)
                .map_err(|e| e.to_string());
            assert_eq!(
                got,
                output.map(<[usize]>::to_vec).map_err(str::to_owned),
                "{a:?} {b:?}"
            );
            let dims = |shape: &[usize]| shape.iter().map(|&d| SymDim::from(d)).collect::<Vec<_>>();
            let inferred = infer_product(&dims(a), &dims(b), 1).ok();
            assert_eq!(inferred, got.ok().map(|shape| dims(&shape)), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_batch_of_products() {
        let product = MatrixProduct::new(&[2, 1, 2], &[2, 2], 1).unwrap();
        assert_eq!(product.compute(&[1_i64, 2, 3, 4], &[1, 2, 3, 4]), [7, 10, 15, 22]);
    }
}

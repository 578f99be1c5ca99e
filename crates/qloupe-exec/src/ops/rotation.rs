//! Rotary positional embedding: pairs of elements of a head, turned by the angle of their position.

use qloupe_tensor::Tensor;

use super::attention_core::dims_of;
use super::float_tensor::{from_float32, to_float32};
use super::parameters::{integers, resolve_index};
use super::rows::for_each_row;
use crate::OpError;

/// The cosines and sines of all positions.
#[derive(Debug)]
pub(super) struct Rotation {
    cos: Vec<f32>,
    sin: Vec<f32>,
    n_rows: usize,
    /// The pairs that are turned: the columns of both tables.
    n_pairs: usize,
    /// Whether a pair is two neighbours; otherwise one element of each half.
    interleaved: bool,
}

impl Rotation {
    /// Reads the tables; their rows are all dimensions but the last. `idx` is the input of the cosines, the sines follow.
    ///
    /// # Errors
    /// Tables of different shapes, rank 0 or no elements, another dtype.
    pub(super) fn new(cos: &Tensor, sin: &Tensor, idx: usize, interleaved: bool) -> Result<Self, OpError> {
        let shape = cos.shape();
        let Some((&n_pairs, rows)) = shape.split_last().filter(|_| !cos.is_empty()) else {
            return Err(OpError::input(
                idx,
                format!("has no angles, expected [.., pairs], got {shape:?}"),
            ));
        };
        if sin.shape() != shape {
            return Err(OpError::input(
                idx + 1,
                format!(
                    "does not fit the cosines, expected shape {shape:?}, got {:?}",
                    sin.shape()
                ),
            ));
        }
        Ok(Self {
            n_rows: rows.iter().product(),
            n_pairs,
            cos: to_float32(cos, idx)?.into_owned(),
            sin: to_float32(sin, idx + 1)?.into_owned(),
            interleaved,
        })
    }

    /// The number of pairs of elements that are turned.
    pub(super) fn n_pairs(&self) -> usize {
        self.n_pairs
    }

    /// The rows of positions that are given: input `idx` of as many integers as there are tokens.
    ///
    /// # Errors
    /// Another number, a position without angles.
    pub(super) fn rows_at(
        &self,
        positions: &Tensor,
        idx: usize,
        n_tokens: usize,
    ) -> Result<Vec<usize>, OpError> {
        let positions = integers(positions, idx)?;
        if positions.len() != n_tokens {
            return Err(OpError::input(
                idx,
                format!(
                    "wrong number of positions, expected {n_tokens}, got {}",
                    positions.len()
                ),
            ));
        }
        positions
            .into_iter()
            .map(|position| self.row(position, idx))
            .collect()
    }

    /// The row of a position; `idx` is the input that has it.
    ///
    /// # Errors
    /// A position without angles.
    pub(super) fn row(&self, position: i64, idx: usize) -> Result<usize, OpError> {
        if position < 0 {
            return Err(OpError::input(
                idx,
                format!("negative position, expected at least 0, got {position}"),
            ));
        }
        resolve_index(position, self.n_rows, idx)
    }

    /// Heads of `[batch, heads, length, size]`, turned; `rows` has the row of angles of each token of each batch.
    ///
    /// # Errors
    /// Another rank, heads that are smaller than the pairs, a number of rows that does not fit.
    pub(super) fn turn(&self, heads: &Tensor, idx: usize, rows: &[usize]) -> Result<Tensor, OpError> {
        let [batch, n_heads, length, size] = dims_of(heads, idx)?;
        let n_pairs = self.n_pairs;
        let fits = n_pairs.checked_mul(2).is_some_and(|turned| turned <= size);
        if !fits || rows.len() != batch * length || rows.iter().any(|&row| row >= self.n_rows) {
            return Err(OpError::input(
                idx,
                format!(
                    "does not fit the angles, expected heads of at least 2 * {n_pairs} elements and at most {} \
                     positions, got shape {:?}",
                    self.n_rows,
                    heads.shape()
                ),
            ));
        }
        let mut values = to_float32(heads, idx)?.into_owned();
        let work = values.len();
        for_each_row(&mut values, size, work, &|row, head| {
            let angles = rows[row / (n_heads * length) * length + row % length] * n_pairs;
            for pair in 0..n_pairs {
                let (first, second) = if self.interleaved {
                    (2 * pair, 2 * pair + 1)
                } else {
                    (pair, pair + n_pairs)
                };
                let (cos, sin) = (self.cos[angles + pair], self.sin[angles + pair]);
                let (a, b) = (head[first], head[second]);
                head[first] = cos * a - sin * b;
                head[second] = sin * a + cos * b;
            }
        });
        from_float32(heads.dtype(), heads.shape(), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarter_turn(interleaved: bool) -> Rotation {
        let table = |v: f32| Tensor::new(&[1, 2], vec![v; 2]).unwrap();
        Rotation::new(&table(0.0), &table(1.0), 1, interleaved).unwrap()
    }

    #[test]
    fn pairs_are_neighbours_or_halves_and_the_rest_stays() {
        let x = Tensor::new(&[1, 1, 1, 5], vec![1_f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let turned = |interleaved| {
            quarter_turn(interleaved)
                .turn(&x, 0, &[0])
                .unwrap()
                .into_vec::<f32>()
                .unwrap()
        };
        assert_eq!(turned(true), [-2.0, 1.0, -4.0, 3.0, 5.0]);
        assert_eq!(turned(false), [-3.0, -4.0, 1.0, 2.0, 5.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let rotation = quarter_turn(false);
        let x = Tensor::new(&[1, 1, 1, 2], vec![1_f32, 2.0]).unwrap();
        let positions = Tensor::vector(vec![1_i64]);
        let cases = [
            (
                rotation.turn(&x, 0, &[0]).unwrap_err(),
                "input 0: does not fit the angles, expected heads of at least 2 * 2 elements and at most 1 positions, \
                 got shape [1, 1, 1, 2]",
            ),
            (
                rotation.rows_at(&positions, 3, 1).unwrap_err(),
                "input 3: index outside the axis, expected [-1, 1), got 1",
            ),
            (
                rotation.rows_at(&positions, 3, 2).unwrap_err(),
                "input 3: wrong number of positions, expected 2, got 1",
            ),
            (
                rotation.row(-1, 3).unwrap_err(),
                "input 3: negative position, expected at least 0, got -1",
            ),
            (
                Rotation::new(&Tensor::new(&[0, 4], Vec::<f32>::new()).unwrap(), &x, 1, false).unwrap_err(),
                "input 1: has no angles, expected [.., pairs], got [0, 4]",
            ),
            (
                Rotation::new(&x, &positions, 1, false).unwrap_err(),
                "input 2: does not fit the cosines, expected shape [1, 1, 1, 2], got [1]",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}

//! What a query of an attention sees: an additive bias, a causal or sliding window, and keys that are only padding.

use std::ops::Range;

use qloupe_tensor::{DType, Tensor};

use super::attention_core::dims_of;
use super::cast::cast;
use super::elementwise::{NUMBERS, map, wrong_dtype, zip_tensors};
use super::number::{Castable, Exact, Number, each_number};
use super::rows::for_each_row;
use crate::OpError;

/// The keys that queries see. Without anything set, every query sees every key.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Added to the scores: `[batch or 1, heads or 1, queries or 1, keys or 1]`, of their type.
    pub(super) bias: Option<Tensor>,
    /// The position of the first query among the keys: one for each batch, or one for all; 0 if empty.
    pub(super) positions: Vec<i64>,
    /// How many keys before its own position a query sees.
    pub(super) behind: Option<i64>,
    /// How many keys after its own position a query sees; 0 is causal.
    pub(super) ahead: Option<i64>,
    /// For each batch the number of keys that are not padding.
    pub(super) lengths: Option<Vec<i64>>,
}

impl Sight {
    /// The keys in the window of a query.
    fn window(&self, batch: usize, query: usize, n_keys: usize) -> Range<usize> {
        let first = match self.positions.as_slice() {
            &[only] => only,
            each => each.get(batch).copied().unwrap_or(0),
        };
        let position = first.saturating_add(query as i64);
        let bound = |key: i64| usize::try_from(key).unwrap_or(0).min(n_keys);
        let start = self
            .behind
            .map_or(0, |behind| bound(position.saturating_sub(behind)));
        let end = self.ahead.map_or(n_keys, |ahead| {
            bound(position.saturating_add(ahead).saturating_add(1))
        });
        let length = self.lengths.as_ref().and_then(|lengths| lengths.get(batch));
        start..end.min(length.map_or(n_keys, |&length| bound(length))).max(start)
    }

    fn has_window(&self) -> bool {
        self.behind.is_some() || self.ahead.is_some() || self.lengths.is_some()
    }

    /// Scores with the bias added and keys outside the windows at minus infinity.
    ///
    /// # Errors
    /// A bias that does not broadcast to the scores; it is input `bias_idx`.
    pub(super) fn limit(&self, scores: Tensor, bias_idx: usize) -> Result<Tensor, OpError> {
        let [_, heads, queries, keys] = dims_of(&scores, 0)?;
        let scores = match &self.bias {
            Some(bias) => biased(&scores, bias, bias_idx)?,
            None => scores,
        };
        if !self.has_window() {
            return Ok(scores);
        }
        let shape = scores.shape().to_vec();
        each_number!(scores.dtype(), T => {
            let hidden = T::narrow(Exact::Float(f64::NEG_INFINITY));
            let mut values = scores.into_vec::<T>()?;
            let work = values.len();
            for_each_row(&mut values, keys, work, &|row, scores| {
                let window = self.window(row / (heads * queries), row % queries, keys);
                scores[..window.start].fill(hidden);
                scores[window.end..].fill(hidden);
            });
            Ok(Tensor::new(&shape, values)?)
        }, else Err(wrong_dtype(0, NUMBERS, scores.dtype())))
    }

    /// Probabilities with the rows of queries that see no key at 0.
    ///
    /// # Errors
    /// Probabilities of another rank.
    pub(super) fn blank(&self, probabilities: Tensor) -> Result<Tensor, OpError> {
        if !self.has_window() && self.bias.is_none() {
            return Ok(probabilities);
        }
        let shape = probabilities.shape().to_vec();
        let [_, heads, queries, keys] = dims_of(&probabilities, 0)?;
        let open = self.bias.as_ref().map(OpenKeys::new).transpose()?;
        each_number!(probabilities.dtype(), T => {
            let mut values = probabilities.into_vec::<T>()?;
            let work = values.len();
            for_each_row(&mut values, keys, work, &|row, probabilities| {
                let (batch, head, query) = (row / queries / heads, row / queries % heads, row % queries);
                let mut window = self.window(batch, query, keys);
                let sees = match &open {
                    Some(open) => window.any(|key| open.contains([batch, head, query, key])),
                    None => !window.is_empty(),
                };
                if !sees {
                    probabilities.fill(T::ZERO);
                }
            });
            Ok(Tensor::new(&shape, values)?)
        }, else Err(wrong_dtype(0, NUMBERS, probabilities.dtype())))
    }
}

/// The keys that a bias does not put at minus infinity.
struct OpenKeys {
    open: Vec<bool>,
    strides: [usize; 4],
}

impl OpenKeys {
    fn new(bias: &Tensor) -> Result<Self, OpError> {
        let open = bias.to_f64_vec()?.into_iter().map(|v| v != f64::NEG_INFINITY);
        let dims = dims_of(bias, 0)?;
        let mut stride = 1;
        let mut strides = [0; 4];
        for (own, size) in strides.iter_mut().zip(dims).rev() {
            *own = if size == 1 { 0 } else { stride };
            stride *= size;
        }
        Ok(Self {
            open: open.collect(),
            strides,
        })
    }

    fn contains(&self, place: [usize; 4]) -> bool {
        self.open[place
            .iter()
            .zip(self.strides)
            .map(|(i, stride)| i * stride)
            .sum::<usize>()]
    }
}

fn biased(scores: &Tensor, bias: &Tensor, idx: usize) -> Result<Tensor, OpError> {
    let fits = bias.rank() == 4
        && bias
            .shape()
            .iter()
            .zip(scores.shape())
            .all(|(&b, &s)| b == 1 || b == s);
    if !fits || bias.dtype() != scores.dtype() {
        return Err(OpError::input(
            idx,
            format!(
                "does not fit the scores, expected {} that broadcasts to {:?}, got {} of {:?}",
                scores.dtype(),
                scores.shape(),
                bias.dtype(),
                bias.shape()
            ),
        ));
    }
    each_number!(
        scores.dtype(), T => zip_tensors::<T, T>(scores, bias, Number::plus),
        else Err(wrong_dtype(0, NUMBERS, scores.dtype()))
    )
}

/// A mask as a bias of rank 4: false becomes minus infinity, numbers are added; keys beyond its end are hidden.
///
/// # Errors
/// A mask of rank 0 or above 4, one with more than `n_keys` columns.
pub(super) fn mask_bias(mask: &Tensor, idx: usize, dtype: DType, n_keys: usize) -> Result<Tensor, OpError> {
    let fits = (1..=4).contains(&mask.rank()) && mask.shape().last().is_some_and(|&n| n <= n_keys);
    if !fits {
        return Err(OpError::input(
            idx,
            format!(
                "mask does not fit, expected rank 1 to 4 and at most {n_keys} columns, got {:?}",
                mask.shape()
            ),
        ));
    }
    let values = match mask.as_slice::<bool>() {
        Some(seen) => {
            let bias = map(seen, |seen| if seen { 0.0_f32 } else { f32::NEG_INFINITY });
            Tensor::new(mask.shape(), bias)?
        }
        None => mask.clone(),
    };
    let values = cast(&values, dtype)?;
    let n = mask.shape()[mask.rank() - 1];
    let mut shape = vec![1; 4 - mask.rank()];
    shape.extend_from_slice(mask.shape());
    shape[3] = n_keys;
    each_number!(dtype, T => {
        let hidden = T::narrow(Exact::Float(f64::NEG_INFINITY));
        let n_rows = shape[..3].iter().product();
        let values = values.require::<T>()?;
        let mut bias = Vec::with_capacity(values.len());
        for row in 0..n_rows {
            bias.extend_from_slice(&values[row * n..][..n]);
            bias.resize(bias.len() + n_keys - n, hidden);
        }
        Ok(Tensor::new(&shape, bias)?)
    }, else Err(wrong_dtype(idx, NUMBERS, dtype)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: f32 = f32::NEG_INFINITY;

    #[test]
    fn windows_end_where_the_keys_do() {
        struct Case {
            sight: Sight,
            query: usize,
            keys: Range<usize>,
        }
        let causal = |position, behind| Sight {
            positions: vec![position],
            behind,
            ahead: Some(0),
            ..Sight::default()
        };
        let cases = [
            Case {
                sight: Sight::default(),
                query: 3,
                keys: 0..6,
            },
            Case {
                sight: causal(0, None),
                query: 1,
                keys: 0..2,
            },
            Case {
                sight: causal(4, None),
                query: 9,
                keys: 0..6,
            },
            Case {
                sight: causal(2, Some(1)),
                query: 1,
                keys: 2..4,
            },
            Case {
                sight: causal(-3, None),
                query: 1,
                keys: 0..0,
            },
            Case {
                sight: causal(i64::MAX, Some(i64::MAX)),
                query: 1,
                keys: 0..6,
            },
            Case {
                sight: Sight {
                    lengths: Some(vec![-1]),
                    ..Sight::default()
                },
                query: 0,
                keys: 0..0,
            },
        ];
        for Case { sight, query, keys } in cases {
            assert_eq!(sight.window(0, query, 6), keys, "query {query} of {sight:?}");
        }
    }

    #[test]
    fn a_query_that_sees_nothing_has_no_probabilities() {
        let mask = Tensor::new(&[2, 1], vec![true, false]).unwrap();
        let sight = Sight {
            bias: Some(mask_bias(&mask, 3, DType::Float32, 2).unwrap()),
            ..Sight::default()
        };
        let rows = |values: [f32; 4]| Tensor::new(&[1, 1, 2, 2], values.to_vec()).unwrap();
        let limited = sight.limit(rows([1.0, 2.0, f32::INFINITY, 4.0]), 3).unwrap();
        assert_eq!(limited.as_slice::<f32>().unwrap()[..2], [1.0, HIDDEN]);
        assert_eq!(
            sight.blank(rows([1.0, 0.0, f32::NAN, 0.5])).unwrap(),
            rows([1.0, 0.0, 0.0, 0.0])
        );
    }

    #[test]
    fn a_mask_that_does_not_fit_is_named() {
        let mask = Tensor::new(&[1, 3], vec![0_f32; 3]).unwrap();
        assert_eq!(
            mask_bias(&mask, 3, DType::Float32, 2).unwrap_err().to_string(),
            "input 3: mask does not fit, expected rank 1 to 4 and at most 2 columns, got [1, 3]"
        );
        let sight = Sight {
            bias: Some(Tensor::new(&[1, 2, 1, 3], vec![0_f32; 6]).unwrap()),
            ..Sight::default()
        };
        let scores = Tensor::new(&[1, 1, 1, 3], vec![0_f32; 3]).unwrap();
        assert_eq!(
            sight.limit(scores, 3).unwrap_err().to_string(),
            "input 3: does not fit the scores, expected float32 that broadcasts to [1, 1, 1, 3], got float32 of \
             [1, 2, 1, 3]"
        );
    }
}

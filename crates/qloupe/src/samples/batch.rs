//! What one run takes: one sample, or as many as a model of fixed batch takes at once.

use qloupe_tensor::Tensor;

use super::SampleError;
use crate::leading_axis;

/// The inputs of one run and which samples they hold.
///
/// A model of fixed batch n gets n samples. Where fewer are left, the last one is repeated; what the repeated ones give
/// is dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Each input's name and tensor.
    pub inputs: Vec<(String, Tensor)>,
    /// The first sample.
    pub first: usize,
    /// How many samples, the repeated ones left out.
    pub n_samples: usize,
    /// How many samples the model takes at once, the repeated ones included.
    n_rows: usize,
}

impl Batch {
    /// One sample as it is.
    pub fn single(idx: usize, inputs: Vec<(String, Tensor)>) -> Self {
        Self {
            inputs,
            first: idx,
            n_samples: 1,
            n_rows: 1,
        }
    }

    /// Joins samples of batch 1 to one batch of `n_rows`; constants are handed over as they are.
    pub(super) fn join(
        first: usize,
        n_rows: usize,
        samples: Vec<Vec<(String, Tensor)>>,
        is_constant: impl Fn(usize) -> bool,
    ) -> Result<Self, SampleError> {
        let n_samples = samples.len();
        let n_inputs = samples.first().map_or(0, Vec::len);
        let input = |input: usize| {
            let name = samples[0][input].0.clone();
            if is_constant(input) {
                return Ok((name, samples[0][input].1.clone()));
            }
            let row = |row: usize| samples[row.min(n_samples - 1)][input].1.clone();
            let rows: Vec<Tensor> = (0..n_rows).map(row).collect();
            let unlike = rows.iter().position(|row| row.shape() != rows[0].shape());
            if let Some(unlike) = unlike {
                return Err(SampleError::Batch {
                    input: name,
                    n_rows,
                    sample: first + unlike,
                    expected: rows[0].shape().to_vec(),
                    got: rows[unlike].shape().to_vec(),
                });
            }
            let joined = leading_axis::join(&rows).expect("invariant: inputs have computed dtypes");
            Ok((name, joined.expect("invariant: rows of one input, equal shapes")))
        };
        Ok(Self {
            inputs: (0..n_inputs).map(input).collect::<Result<_, _>>()?,
            first,
            n_samples,
            n_rows,
        })
    }

    /// True where the first axis of a value of this shape counts the samples.
    /// How many samples the model takes at once.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn counts_samples(&self, shape: &[usize]) -> bool {
        self.n_rows > 1 && shape.first() == Some(&self.n_rows)
    }

    /// The elements of each sample of a value, the repeated ones left out. A value whose first axis does not count the
    /// samples is one part.
    pub fn parts<'v, T>(&self, shape: &[usize], values: &'v [T]) -> Vec<&'v [T]> {
        if self.counts_samples(shape) && !values.is_empty() && values.len().is_multiple_of(self.n_rows) {
            let parts = values.chunks_exact(values.len() / self.n_rows);
            parts.take(self.n_samples).collect()
        } else {
            vec![values]
        }
    }

    /// A value of each sample, the repeated ones left out; of batch 1 each. A value whose first axis does not count the
    /// samples is handed over whole.
    pub fn split(&self, tensor: &Tensor) -> Vec<Tensor> {
        if !self.counts_samples(tensor.shape()) {
            return vec![tensor.clone()];
        }
        let parts = (0..self.n_samples).map(|row| leading_axis::cut(tensor, row, 1)?.ok());
        parts
            .collect::<Option<Vec<Tensor>>>()
            .unwrap_or_else(|| vec![tensor.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f32) -> Vec<(String, Tensor)> {
        let x = Tensor::new(&[1, 2], vec![value; 2]).unwrap();
        vec![("x".to_owned(), x), ("rate".to_owned(), Tensor::scalar(7_i64))]
    }

    #[test]
    fn the_last_sample_fills_the_batch_and_counts_once() {
        let batch = Batch::join(4, 3, vec![sample(1.0), sample(2.0)], |input| input == 1).unwrap();
        let (_, x) = &batch.inputs[0];
        assert_eq!(
            *x,
            Tensor::new(&[3, 2], vec![1.0_f32, 1.0, 2.0, 2.0, 2.0, 2.0]).unwrap()
        );
        assert_eq!(batch.inputs[1].1, Tensor::scalar(7_i64));
        assert_eq!((batch.first, batch.n_samples), (4, 2));
        let values = x.as_slice::<f32>().unwrap();
        assert_eq!(batch.parts(x.shape(), values), [[1.0, 1.0], [2.0, 2.0]]);
        assert_eq!(
            batch.parts(&[2, 3], values),
            [values],
            "another first axis: one part"
        );
        assert_eq!(batch.parts(&[3, 0], &values[..0]), [&values[..0]], "no elements");
        let rows = batch.split(x);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1], sample(2.0)[0].1);
    }

    #[test]
    fn one_sample_stays_whole() {
        let batch = Batch::single(3, sample(1.0));
        let x = &batch.inputs[0].1;
        assert_eq!(batch.split(x), std::slice::from_ref(x));
        assert_eq!((batch.first, batch.n_samples), (3, 1));
    }

    #[test]
    fn samples_of_one_batch_have_one_shape() {
        let mut wide = sample(2.0);
        wide[0].1 = Tensor::new(&[1, 3], vec![2.0_f32; 3]).unwrap();
        let error = Batch::join(4, 2, vec![sample(1.0), wide], |input| input == 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input \"x\": sample 5 does not fit a batch of 2, expected shape [1, 2] as sample 4, got [1, 3]; \
             set size in the recipe"
        );
    }
}

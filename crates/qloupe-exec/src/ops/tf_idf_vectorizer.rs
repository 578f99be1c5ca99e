//! TfIdfVectorizer: counts of known n-grams in a text of words or numbers.

use std::collections::BTreeMap;

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Tensor};

use super::movement::repeated;
use super::parameters::integers;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y[ngram_indexes[i]]` is how often n-gram `i` of the pool occurs in a row, with at most `max_skip_count` elements between
/// neighbours; `mode` IDF gives its weight instead of the count, TFIDF the product.
///
/// # Shapes
/// x: `[C]` or `[N, C]`; y: `[max(ngram_indexes) + 1]` or `[N, max(ngram_indexes) + 1]`.
#[derive(Debug)]
pub(super) struct TfIdfVectorizer;

/// What stands in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Criterion {
    Count,
    Weight,
    WeightedCount,
}

/// The attributes.
#[derive(Debug)]
struct Attributes {
    criterion: Criterion,
    /// Output index of each n-gram of the pool.
    indexes: Vec<usize>,
    /// Where the n-grams of each length begin in the pool.
    starts: Vec<usize>,
    /// Weight of each output; empty for 1.
    weights: Vec<f32>,
    lengths: std::ops::RangeInclusive<usize>,
    max_skip: usize,
}

fn index_list(node: &Node, name: &'static str) -> Result<Vec<usize>, OpError> {
    let list = node
        .ints(name)
        .ok_or_else(|| OpError::attribute(name, "absent, expected a list of integers"))?;
    list.iter()
        .map(|&v| {
            usize::try_from(v)
                .ok()
                .filter(|&v| v < MAX_INDEX)
                .ok_or_else(|| OpError::attribute(name, format!("wrong index, expected at least 0, got {v}")))
        })
        .collect()
}

/// Larger indices are mistakes: no vocabulary is so large.
const MAX_INDEX: usize = 1 << 31;

impl Attributes {
    fn new(node: &Node) -> Result<Self, OpError> {
        let count = |name: &'static str, at_least: i64| {
            let value = node.int(name).unwrap_or(at_least);
            usize::try_from(value)
                .ok()
                .filter(|_| value >= at_least)
                .ok_or_else(|| {
                    OpError::attribute(
                        name,
                        format!("too small, expected at least {at_least}, got {value}"),
                    )
                })
        };
        let this = Self {
            criterion: match node.string("mode").unwrap_or("") {
                "TF" => Criterion::Count,
                "IDF" => Criterion::Weight,
                "TFIDF" => Criterion::WeightedCount,
                other => {
                    return Err(OpError::attribute(
                        "mode",
                        format!("unknown, expected TF, IDF or TFIDF, got \"{other}\""),
                    ));
                }
            },
            indexes: index_list(node, "ngram_indexes")?,
            starts: index_list(node, "ngram_counts")?,
            weights: node.floats("weights").unwrap_or_default().to_vec(),
            lengths: count("min_gram_length", 1)?..=count("max_gram_length", 1)?,
            max_skip: count("max_skip_count", 0)?,
        };
        if this.n_outputs() == 0 || !(this.weights.is_empty() || this.weights.len() == this.n_outputs()) {
            return Err(OpError::attribute(
                "weights",
                format!(
                    "do not fit ngram_indexes, expected {} or none, got {}",
                    this.n_outputs(),
                    this.weights.len()
                ),
            ));
        }
        Ok(this)
    }

    fn n_outputs(&self) -> usize {
        self.indexes.iter().max().map_or(0, |last| last + 1)
    }

    /// The output index of every n-gram that counts; of equal n-grams the last one.
    fn ngrams<'p, T: Ord>(&self, pool: &'p [T]) -> Result<BTreeMap<Vec<&'p T>, usize>, OpError> {
        let misfit = || OpError::attribute("ngram_counts", "does not fit the pool and ngram_indexes");
        let mut ngrams = BTreeMap::new();
        let mut indexes = self.indexes.iter();
        for (i, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(i + 1).copied().unwrap_or(pool.len());
            for ngram in pool.get(start..end).ok_or_else(misfit)?.chunks_exact(i + 1) {
                let index = *indexes.next().ok_or_else(misfit)?;
                if self.lengths.contains(&(i + 1)) {
                    ngrams.insert(ngram.iter().collect(), index);
                }
            }
        }
        Ok(ngrams)
    }

    /// Counts the n-grams of one row.
    fn count<T: Ord>(&self, row: &[T], ngrams: &BTreeMap<Vec<&T>, usize>, counts: &mut [f32]) {
        for length in self
            .lengths
            .clone()
            .take_while(|&length| length <= self.starts.len())
        {
            let max_skip = if length == 1 { 0 } else { self.max_skip };
            for step in 1..=max_skip.saturating_add(1) {
                let span = step.saturating_mul(length - 1);
                if span >= row.len() {
                    break;
                }
                for start in 0..row.len() - span {
                    let ngram: Vec<&T> = row[start..=start + span].iter().step_by(step).collect();
                    if let Some(&index) = ngrams.get(&ngram) {
                        counts[index] += 1.0;
                    }
                }
            }
        }
    }

    fn vectorize<T: Ord>(&self, pool: &[T], x: &[T], shape: &[usize]) -> Result<Tensor, OpError> {
        let (row, output) = match *shape {
            [] => (1, vec![self.n_outputs()]),
            [row] => (row, vec![self.n_outputs()]),
            [n, row] => (row, vec![n, self.n_outputs()]),
            _ => {
                return Err(OpError::input(
                    0,
                    format!("wrong rank, expected [C] or [N, C], got shape {shape:?}"),
                ));
            }
        };
        let ngrams = self.ngrams(pool)?;
        let mut y = repeated(0.0_f32, &output)?;
        for (counts, x) in y
            .chunks_exact_mut(self.n_outputs())
            .zip(x.chunks_exact(row.max(1)))
        {
            self.count(x, &ngrams, counts);
            for (i, count) in counts.iter_mut().enumerate() {
                let weight = self.weights.get(i).copied().unwrap_or(1.0);
                *count = match self.criterion {
                    Criterion::Count => *count,
                    Criterion::Weight if *count > 0.0 => weight,
                    Criterion::Weight => 0.0,
                    Criterion::WeightedCount => weight * *count,
                };
            }
        }
        Ok(Tensor::new(&output, y)?)
    }
}

impl Operator for TfIdfVectorizer {
    fn op_type(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn since_version(&self) -> i64 {
        9
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let n_outputs = SymDim::from(Attributes::new(ctx.node)?.n_outputs());
        let shape = x.shape.as_deref().map(|shape| match shape {
            [n, _] => vec![n.clone(), n_outputs],
            _ => vec![n_outputs],
        });
        Ok(vec![Fact::new(Some(DType::Float32), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let attributes = Attributes::new(ctx.node)?;
        if let Some(words) = x.as_strings() {
            let pool = match ctx.node.attribute("pool_strings") {
                Some(AttributeValue::Strings(pool)) => pool,
                _ => {
                    return Err(OpError::attribute(
                        "pool_strings",
                        "absent, expected a list of words",
                    ));
                }
            };
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
            return Ok(vec![attributes.vectorize(pool, &words, x.shape())?]);
        }
        let pool = ctx
            .node
            .ints("pool_int64s")
            .ok_or_else(|| OpError::attribute("pool_int64s", "absent, expected a list of integers"))?;
        Ok(vec![attributes.vectorize(pool, &integers(x, 0)?, x.shape())?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[test]
    fn words_are_counted_and_weighted() {
        let ints = |list: &[i64]| AttributeValue::Ints(list.to_vec());
        let words = |list: &[&str]| list.iter().map(|w| w.as_bytes().to_vec()).collect();
        let x = Tensor::from_strings(&[4], ["a", "b", "a", "b"].map(str::to_owned).to_vec()).unwrap();
        let cases = [("TF", [2.0_f32, 2.0]), ("IDF", [0.5, 3.0]), ("TFIDF", [1.0, 6.0])];
        for (mode, expected) in cases {
            let node = Node::default()
                .with_attribute("mode", AttributeValue::String(mode.into()))
                .with_attribute("ngram_counts", ints(&[0, 1]))
                .with_attribute("ngram_indexes", ints(&[0, 1]))
                .with_attribute("pool_strings", AttributeValue::Strings(words(&["b", "a", "b"])))
                .with_attribute("weights", AttributeValue::Floats(vec![0.5, 3.0]))
                .with_attribute("max_gram_length", AttributeValue::Int(2));
            let ctx = EvalContext {
                node: &node,
                opset: 9,
                layout: Layout::Plain,
                inputs: &[Some(&x)],
            };
            let y = TfIdfVectorizer.eval(&ctx).unwrap();
            assert_eq!(y, [Tensor::vector(expected.to_vec())], "{mode}");
        }
    }
}

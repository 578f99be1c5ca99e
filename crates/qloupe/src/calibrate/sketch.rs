//! What is kept of the elements of one value: the range of every sample, and a histogram of all.

use qloupe_tensor::Range;

use super::histogram::{Histogram, Point};

/// Elements of one sample that the histogram counts: larger values are sampled evenly. The range counts all.
const MAX_COUNTED: usize = 16_384;

/// The statistics of one value, from which every algorithm finds its range.
///
/// Memory does not depend on the size of the value; samples add 8 bytes each. Merging two of them is exact: the result is
/// that of seeing all samples, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    samples: Vec<Range>,
    histogram: Histogram,
}

impl Sketch {
    /// A sketch of stored statistics.
    pub fn new(samples: Vec<Range>, histogram: Histogram) -> Self {
        Self { samples, histogram }
    }

    /// Sees the elements of one sample, which are finite and not none; `range` is theirs. Without elements only the range
    /// is kept.
    pub fn observe(&mut self, values: &[f32], range: Range) {
        self.samples.push(range);
        if !values.is_empty() {
            self.histogram.add(values, stride(values.len()));
        }
    }

    /// Adds what another sketch saw after this one.
    pub fn merge(&mut self, other: &Self) {
        self.samples.extend_from_slice(&other.samples);
        self.histogram.merge(&other.histogram);
    }

    /// The range of each sample, in order.
    pub fn samples(&self) -> &[Range] {
        &self.samples
    }

    /// The histogram of all samples; empty when only ranges were asked for.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// The range of all samples; `[0, 0]` when there are none.
    pub fn range(&self) -> Range {
        let join = |a: Range, b: &Range| Range {
            min: a.min.min(b.min),
            max: a.max.max(b.max),
        };
        let first = self
            .samples
            .first()
            .copied()
            .unwrap_or(Range { min: 0.0, max: 0.0 });
        self.samples.iter().fold(first, join)
    }

    /// The histogram as points inside the range; without a histogram, the ends of every sample.
    pub fn points(&self) -> Vec<Point> {
        if !self.histogram.is_empty() {
            return self.histogram.points(self.range());
        }
        let ends = self.samples.iter().flat_map(|range| [range.min, range.max]);
        let mut ends: Vec<f64> = ends.map(f64::from).collect();
        ends.sort_by(f64::total_cmp);
        ends.into_iter()
            .map(|value| Point { value, count: 1.0 })
            .collect()
    }
}

/// The distance of counted elements: odd and no multiple of 3, 5 or 7, so that no usual number of channels divides it.
fn stride(len: usize) -> usize {
    let least = len.div_ceil(MAX_COUNTED);
    let divides = |stride: &usize| [2, 3, 5, 7].iter().all(|prime| !stride.is_multiple_of(*prime));
    if least <= 1 {
        return 1;
    }
    (least..).find(divides).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_are_sampled_evenly() {
        let cases = [
            (1, 1),
            (MAX_COUNTED, 1),
            (MAX_COUNTED + 1, 11),
            (MAX_COUNTED * 12, 13),
        ];
        for (len, expected) in cases {
            assert_eq!(stride(len), expected, "{len} elements");
        }
        let values = vec![2.0; MAX_COUNTED * 12];
        let mut sketch = Sketch::default();
        sketch.observe(&values, Range { min: 2.0, max: 2.0 });
        assert_eq!(sketch.histogram().len(), (values.len() as u64).div_ceil(13));
    }

    #[test]
    fn a_sketch_of_nothing_has_an_empty_range() {
        assert_eq!(Sketch::default().range(), Range { min: 0.0, max: 0.0 });
        assert!(Sketch::default().points().is_empty());
    }
}

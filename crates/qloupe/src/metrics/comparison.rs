//! Gathers the metrics of many samples in bounded memory.

use super::sqnr_db::SqnrDb;
use super::student::mean_interval;
use super::sum::Sum;
use super::worst_samples::WorstSamples;
use super::{ALL, Direction, LengthError, Metric, Moments, Reduction, Representable};
use crate::report::{MetricValue, Metrics};

/// A reference and a tested value, compared over samples.
///
/// # Example
/// ```
/// use qloupe::metrics::Comparison;
/// let mut comparison = Comparison::new();
/// comparison.observe(&[3.0, 4.0], &[3.0, 4.0], None).unwrap();
/// comparison.observe(&[3.0, 4.0], &[0.0, 0.0], None).unwrap();
/// let cosine = comparison.finish()["cosine"];
/// assert_eq!((cosine.value, cosine.min, cosine.n), (0.5, 0.0, 2));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pooled: Moments,
    /// One for each metric of [`ALL`].
    series: Vec<Series>,
    worst: WorstSamples,
}

impl Default for Comparison {
    fn default() -> Self {
        Self::new()
    }
}

impl Comparison {
    /// No samples yet.
    pub fn new() -> Self {
        Self {
            pooled: Moments::default(),
            series: vec![Series::default(); ALL.len()],
            worst: WorstSamples::default(),
        }
    }

    /// Adds one sample. `representable`: what the tested value can hold, where it is quantized.
    ///
    /// # Errors
    /// [`LengthError`] if the tensors differ in length; the comparison is as before.
    pub fn observe(
        &mut self,
        reference: &[f32],
        test: &[f32],
        representable: Option<Representable>,
    ) -> Result<(), LengthError> {
        self.add(&Moments::measure(reference, test, representable)?);
        Ok(())
    }

    /// Adds one sample that was measured before, so that samples can be measured in parallel and added in order.
    pub fn add(&mut self, sample: &Moments) {
        self.pooled.merge(sample);
        let nothing_left = sample.n == 0 && (sample.n_nan > 0 || sample.n_infinite > 0);
        if nothing_left {
            return;
        }
        for (series, metric) in self.series.iter_mut().zip(ALL) {
            if let Some(value) = metric.of(sample) {
                series.add(value);
            }
        }
    }

    /// Adds sample `index`, so that it can be named if it is one of the worst.
    pub fn add_at(&mut self, index: usize, sample: &Moments) {
        self.add(sample);
        if let Some(sqnr_db) = SqnrDb.of(sample) {
            self.worst.add(index, sqnr_db);
        }
    }

    /// Samples that had something to compare.
    pub fn n_samples(&self) -> u64 {
        self.series.iter().map(|series| series.n).max().unwrap_or(0)
    }

    /// The samples with the lowest `sqnr_db` of those that were added with their index, the worst first.
    pub fn worst_samples(&self) -> &[(usize, f64)] {
        self.worst.get()
    }

    /// `sqnr_db` over the elements of all samples so far; `None` before there are some.
    pub fn pooled_sqnr_db(&self) -> Option<f64> {
        SqnrDb
            .of(&self.pooled)
            .filter(|_| self.series.iter().any(|series| series.n > 0))
    }

    /// Adds the samples of another comparison.
    pub fn merge(&mut self, other: &Self) {
        self.worst.merge(&other.worst);
        self.pooled.merge(&other.pooled);
        for (series, other) in self.series.iter_mut().zip(&other.series) {
            series.merge(other);
        }
    }

    /// The energy of the reference and that of the error, summed over all samples and elements.
    pub fn energies(&self) -> (f64, f64) {
        (self.pooled.reference_sq(), self.pooled.error_sq())
    }

    /// Pairs with a NaN, over all samples.
    pub fn n_nan(&self) -> u64 {
        self.pooled.n_nan
    }

    /// Pairs with an infinity, over all samples.
    pub fn n_infinite(&self) -> u64 {
        self.pooled.n_infinite
    }

    /// True if every tested element is 0 and some reference is not: the signal died.
    pub fn is_dead(&self) -> bool {
        self.pooled.test_sq() == 0.0 && self.pooled.reference_sq() > 0.0
    }

    /// The metrics that apply, by id.
    ///
    /// Without a single element to compare every figure is NaN and `n` is 0; without a single sample there are none.
    pub fn finish(&self) -> Metrics {
        let observed = self.pooled != Moments::default() || self.series.iter().any(|s| s.n > 0);
        ALL.iter()
            .zip(&self.series)
            .filter(|(metric, series)| series.n > 0 || (observed && metric.of(&Moments::default()).is_some()))
            .map(|(metric, series)| (metric.id().to_owned(), series.finish(*metric, &self.pooled)))
            .collect()
    }
}

/// One metric over samples.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    n: u64,
    min: f64,
    max: f64,
    sum: Sum,
    n_finite: u64,
    finite_sum: Sum,
    finite_squares: Sum,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            n: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: Sum::default(),
            n_finite: 0,
            finite_sum: Sum::default(),
            finite_squares: Sum::default(),
        }
    }
}

impl Series {
    fn add(&mut self, value: f64) {
        self.n += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum.add(value);
        if value.is_finite() {
            self.n_finite += 1;
            self.finite_sum.add(value);
            self.finite_squares.add_square(value);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum.merge(other.sum);
        self.n_finite += other.n_finite;
        self.finite_sum.merge(other.finite_sum);
        self.finite_squares.merge(other.finite_squares);
    }

    fn finish(&self, metric: &dyn Metric, pooled: &Moments) -> MetricValue {
        if self.n == 0 {
            let nan = f64::NAN;
            return MetricValue {
                value: nan,
                mean: nan,
                min: nan,
                max: nan,
                std: nan,
                n: 0,
                mean_low: None,
                mean_high: None,
            };
        }
        let mean = self.sum.get() / self.n as f64;
        let value = match metric.reduction() {
            Reduction::Mean => mean,
            Reduction::Pooled => metric.of(pooled).unwrap_or(f64::NAN),
            Reduction::Worst if metric.direction() == Direction::Higher => self.min,
            Reduction::Worst => self.max,
        };
        let n_finite = self.n_finite.max(1) as f64;
        let std = self.finite_sum.variance(self.finite_squares, n_finite).sqrt();
        let interval = mean_interval(mean, std, self.n).filter(|_| self.n_finite == self.n);
        MetricValue {
            value,
            mean,
            min: self.min,
            max: self.max,
            std,
            n: self.n,
            mean_low: interval.map(|(low, _)| low),
            mean_high: interval.map(|(_, high)| high),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: Representable = Representable {
        min: -4.0,
        max: 4.0,
        step: 0.5,
    };

    #[test]
    fn samples_become_figures_as_worked_by_hand() {
        let mut comparison = Comparison::new();
        comparison.observe(&[3.0, 4.0], &[3.0, 5.0], None).unwrap();
        comparison
            .observe(&[30.0, 40.0], &[30.0, 50.0], Some(RANGE))
            .unwrap();
        let metrics = comparison.finish();
        let value = |id: &str| metrics[id].value;
        struct Case {
            id: &'static str,
            expected: f64,
        }
        let cases = [
            Case {
                id: "clipped_fraction",
                expected: 1.0,
            },
            Case {
                id: "euclidean",
                expected: 5.5,
            },
            Case {
                id: "euclidean_rel",
                expected: 0.2,
            },
            Case {
                id: "max_abs",
                expected: 10.0,
            },
            Case {
                id: "mean_error",
                expected: 2.75,
            },
            Case {
                id: "rmse",
                expected: 5.5 / 2.0_f64.sqrt(),
            },
            Case {
                id: "sqnr_db",
                expected: 10.0 * 25.0_f64.log10(),
            },
            Case {
                id: "zero_fraction",
                expected: 0.0,
            },
        ];
        for case in cases {
            assert!(
                (value(case.id) - case.expected).abs() < 1e-12,
                "{}: {}",
                case.id,
                value(case.id)
            );
        }
        assert_eq!((metrics["clipped_fraction"].n, metrics["euclidean"].n), (1, 2));
        let euclidean = metrics["euclidean"];
        assert!((euclidean.std - 4.5).abs() < 1e-12, "{metrics:?}");
        // t(1) = 12.7062, times 4.5 / sqrt(1).
        let half = 12.706_204_736_174_694 * 4.5;
        let (low, high) = (euclidean.mean_low.unwrap(), euclidean.mean_high.unwrap());
        assert!(
            (low - 5.5 + half).abs() < 1e-9 && (high - 5.5 - half).abs() < 1e-9,
            "{euclidean:?}"
        );
        assert_eq!(metrics["clipped_fraction"].mean_low, None, "one sample");
    }

    #[test]
    fn an_exact_sample_beside_another_keeps_std_finite() {
        let mut comparison = Comparison::new();
        comparison.observe(&[1.0], &[1.0], None).unwrap();
        comparison.observe(&[1.0], &[1.1], None).unwrap();
        let sqnr = comparison.finish()["sqnr_db"];
        assert!(
            sqnr.mean.is_infinite() && sqnr.value.is_finite() && sqnr.std == 0.0,
            "{sqnr:?}"
        );
        assert_eq!(
            (sqnr.mean_low, sqnr.mean_high),
            (None, None),
            "no interval around infinity"
        );
        let worst = comparison.finish()["sqnr_db_worst"];
        assert!((worst.value - 20.0).abs() < 1e-5, "{worst:?}");
    }

    #[test]
    fn nothing_but_nan_is_not_perfect() {
        let mut comparison = Comparison::new();
        assert!(comparison.finish().is_empty(), "no samples, no figures");
        comparison.observe(&[f32::NAN], &[1.0], None).unwrap();
        let cosine = comparison.finish()["cosine"];
        assert!(cosine.value.is_nan() && cosine.n == 0, "{cosine:?}");
        assert_eq!(comparison.n_nan(), 1);
    }

    #[test]
    fn the_worst_samples_are_named() {
        let mut comparison = Comparison::new();
        for (index, error) in [(4, 0.1), (7, 0.0), (9, 1.0)] {
            let moments = Moments::measure(&[1.0, 0.0], &[1.0, error], None).unwrap();
            comparison.add_at(index, &moments);
        }
        let worst: Vec<usize> = comparison
            .worst_samples()
            .iter()
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(worst, [9, 4], "an exact sample is none of them");
        let pooled = comparison.pooled_sqnr_db().unwrap();
        assert!(
            (pooled - comparison.finish()["sqnr_db"].value).abs() < 1e-12,
            "{pooled}"
        );
        assert_eq!(Comparison::new().pooled_sqnr_db(), None);
    }

    #[test]
    fn a_dead_value_is_seen() {
        let mut comparison = Comparison::new();
        comparison.observe(&[0.0, 0.0], &[0.0, 0.0], None).unwrap();
        assert!(!comparison.is_dead(), "both are zero");
        comparison.observe(&[0.0, 1e-30], &[0.0, 0.0], None).unwrap();
        assert!(comparison.is_dead(), "only the test is zero");
    }

    proptest! {
        #[test]
        fn merging_parts_is_observing_all(
            samples in proptest::collection::vec((-9_f32..9.0, -9_f32..9.0), 2..20),
            cut in 0_usize..20,
        ) {
            let observe = |samples: &[(f32, f32)]| {
                let mut comparison = Comparison::new();
                for (r, t) in samples {
                    comparison.observe(&[*r, 1.0], &[*t, 1.0], Some(RANGE)).unwrap();
                }
                comparison
            };
            let (head, tail) = samples.split_at(cut.min(samples.len()));
            let mut merged = observe(head);
            merged.merge(&observe(tail));
            prop_assert_eq!(merged.finish(), observe(&samples).finish());
        }
    }
}

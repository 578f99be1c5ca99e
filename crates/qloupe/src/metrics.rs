//! Error metrics: what they are called, what they mean, and how samples become one figure.
//!
//! Argument order is always reference, test. [`Moments`] reads the tensors, once for all metrics; a metric is a formula
//! over them. [`Comparison`] gathers samples.

mod clipped_fraction;
mod comparison;
mod cosine;
mod euclidean;
mod euclidean_rel;
mod max_abs;
mod mean_error;
mod moments;
mod rmse;
mod sqnr_db;
mod sqnr_db_worst;
mod student;
mod sum;
mod worst_samples;
mod zero_fraction;

pub use comparison::Comparison;
pub use moments::{LengthError, Moments, Representable};

pub use crate::report::{MetricValue, Metrics};

/// Every metric, by id.
pub const ALL: &[&dyn Metric] = &[
    &clipped_fraction::ClippedFraction,
    &cosine::Cosine,
    &euclidean::Euclidean,
    &euclidean_rel::EuclideanRel,
    &max_abs::MaxAbs,
    &mean_error::MeanError,
    &rmse::Rmse,
    &sqnr_db::SqnrDb,
    &sqnr_db_worst::SqnrDbWorst,
    &zero_fraction::ZeroFraction,
];

/// Which values of a metric are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Nearer to zero is better, from both sides.
    TowardZero,
}

impl Direction {
    /// The words that help texts print.
    pub fn words(self) -> &'static str {
        match self {
            Self::Higher => "higher is better",
            Self::Lower => "lower is better",
            Self::TowardZero => "nearer to zero is better",
        }
    }

    /// True if `a` is worse than `b`. NaN is worse than everything.
    pub fn is_worse(self, a: f64, b: f64) -> bool {
        if a.is_nan() || b.is_nan() {
            return a.is_nan() && !b.is_nan();
        }
        match self {
            Self::Higher => a < b,
            Self::Lower => a > b,
            Self::TowardZero => a.abs() > b.abs(),
        }
    }
}

/// How samples become one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The mean over samples.
    Mean,
    /// The formula over the elements of all samples.
    Pooled,
    /// The worst sample.
    Worst,
}

/// One figure for how far a tested tensor is from its reference.
pub trait Metric: Sync {
    /// The key in `report.json` and on the command line.
    fn id(&self) -> &'static str;
    /// The head of a table column.
    fn title(&self) -> &'static str;
    /// The unit; empty for a plain number.
    fn unit(&self) -> &'static str;
    /// Which values are good.
    fn direction(&self) -> Direction;
    /// The formula, with r the reference and t the test.
    fn formula(&self) -> &'static str;
    /// How samples become one figure.
    fn reduction(&self) -> Reduction;
    /// The metric of one sample, or of many pooled; `None` where it does not apply.
    fn of(&self, moments: &Moments) -> Option<f64>;
}

impl std::fmt::Debug for dyn Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

/// The metric with this id.
pub fn metric(id: &str) -> Option<&'static dyn Metric> {
    ALL.iter().copied().find(|m| m.id() == id)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Two tensors that differ, neither zero nor clipped.
    const REFERENCE: [f32; 4] = [1.0, -2.0, 3.0, 0.5];
    const RANGE: Representable = Representable {
        min: -8.0,
        max: 8.0,
        step: 0.1,
    };

    fn moments(reference: &[f32], test: &[f32]) -> Moments {
        Moments::measure(reference, test, Some(RANGE)).unwrap()
    }

    fn best(metric: &dyn Metric) -> f64 {
        let same = moments(&REFERENCE, &REFERENCE);
        metric.of(&same).unwrap()
    }

    #[test]
    fn the_list_is_sorted_and_every_file_is_in_it() {
        let ids: Vec<_> = ALL.iter().map(|m| m.id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| {
                f.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .filter(|name| {
                !["comparison", "moments", "student", "sum", "worst_samples"].contains(&name.as_str())
            })
            .collect();
        files.sort();
        assert_eq!(files, ids);
        for metric in ALL {
            let id = metric.id();
            let plain = id.starts_with(|c: char| c.is_ascii_lowercase())
                && id.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
            assert!(plain, "{id}");
            assert!(!metric.title().is_empty() && !metric.formula().is_empty(), "{id}");
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the best values are exact")]
    fn equal_tensors_have_the_best_value() {
        for metric in ALL {
            let best = best(*metric);
            let expected = match (metric.id(), metric.direction()) {
                ("cosine", _) => 1.0,
                (_, Direction::Higher) => f64::INFINITY,
                _ => 0.0,
            };
            assert!(best == expected, "{}: {best}", metric.id());
        }
    }

    proptest! {
        #[test]
        fn no_value_is_better_than_that_of_equal_tensors(
            pairs in proptest::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 1..50)
        ) {
            let (reference, test): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let moments = moments(&reference, &test);
            for metric in ALL {
                let value = metric.of(&moments).unwrap();
                let direction = metric.direction();
                prop_assert!(!value.is_nan() && !direction.is_worse(best(*metric), value), "{}: {value}", metric.id());
            }
        }

        #[test]
        fn a_larger_error_is_never_better(a in 0.01_f32..0.2, b in 0.01_f32..0.2, factor in 1.5_f32..4.0) {
            // At a right angle to the reference: an error along it would leave the cosine as it is.
            let error = [2.0 * a, a, -0.5 * b, 3.0 * b];
            let with = |k: f32| -> Vec<f32> { REFERENCE.iter().zip(&error).map(|(r, e)| r + k * e).collect() };
            let (near, far) = (moments(&REFERENCE, &with(1.0)), moments(&REFERENCE, &with(factor)));
            for metric in ALL {
                let (near, far) = (metric.of(&near).unwrap(), metric.of(&far).unwrap());
                prop_assert!(!metric.direction().is_worse(near, far), "{}: {near} {far}", metric.id());
            }
        }

        #[test]
        fn a_tenth_of_the_error_is_20_db(
            pairs in proptest::collection::vec((-1e3_f32..1e3, 0.5_f32..1.0), 1..50)
        ) {
            const TOLERANCE_DB: f64 = 0.01;
            // Small integers over 2^10 keep the sums exact in f32.
            let grid = |x: f32| (x * 1024.0).trunc() / 1024.0;
            let reference: Vec<f32> = pairs.iter().map(|p| p.0.trunc()).collect();
            let with = |k: f32| -> Vec<f32> {
                pairs.iter().map(|p| p.0.trunc() + grid(p.1) * k).collect()
            };
            prop_assume!(reference.iter().any(|r| *r != 0.0));
            let sqnr = |k| sqnr_db::SqnrDb.of(&moments(&reference, &with(k))).unwrap();
            let gained = sqnr(1.0) - sqnr(10.0);
            prop_assert!((gained - 20.0).abs() < TOLERANCE_DB, "{gained}");
        }

        #[test]
        fn scaling_both_tensors_changes_no_relative_metric(
            pairs in proptest::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 1..50)
        ) {
            let (reference, test): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let scaled = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| x * 4.0).collect() };
            let (one, four) = (moments(&reference, &test), moments(&scaled(&reference), &scaled(&test)));
            for id in ["cosine", "euclidean_rel", "sqnr_db", "sqnr_db_worst", "zero_fraction"] {
                let metric = metric(id).unwrap();
                prop_assert_eq!(metric.of(&one), metric.of(&four), "{}", id);
            }
        }
    }

    #[test]
    fn edge_cases_have_fixed_values() {
        struct Case {
            reference: &'static [f32],
            test: &'static [f32],
            expected: (f64, f64, f64),
        }
        const INF: f64 = f64::INFINITY;
        let cases = [
            Case {
                reference: &[0.0, 0.0],
                test: &[0.0, 0.0],
                expected: (1.0, INF, 0.0),
            },
            Case {
                reference: &[3.0, 4.0],
                test: &[0.0, 0.0],
                expected: (0.0, 0.0, 1.0),
            },
            Case {
                reference: &[0.0, 0.0],
                test: &[3.0, 4.0],
                expected: (0.0, -INF, INF),
            },
            Case {
                reference: &[3.0, 4.0],
                test: &[-3.0, -4.0],
                expected: (-1.0, 20.0 * 0.5_f64.log10(), 2.0),
            },
            Case {
                reference: &[3.0, f32::NAN, 4.0],
                test: &[3.0, 1.0, 4.0],
                expected: (1.0, INF, 0.0),
            },
            Case {
                reference: &[3.0, 1.0, 4.0],
                test: &[3.0, f32::NAN, 4.0],
                expected: (1.0, INF, 0.0),
            },
            Case {
                reference: &[3.0, f32::NEG_INFINITY],
                test: &[3.0, -7.0],
                expected: (1.0, INF, 0.0),
            },
            Case {
                reference: &[3.0, 4.0],
                test: &[3.0, f32::INFINITY],
                expected: (0.0, -INF, INF),
            },
            Case {
                reference: &[],
                test: &[],
                expected: (1.0, INF, 0.0),
            },
        ];
        for case in cases {
            let moments = moments(case.reference, case.test);
            let of = |id| metric(id).unwrap().of(&moments).unwrap();
            let got = (of("cosine"), of("sqnr_db"), of("euclidean_rel"));
            assert!(
                got == case.expected,
                "{:?} {:?}: {got:?}",
                case.reference,
                case.test
            );
        }
    }

    #[test]
    fn nan_is_worse_than_everything() {
        let worse = Direction::Higher;
        assert!(worse.is_worse(f64::NAN, f64::NEG_INFINITY));
        assert!(!worse.is_worse(f64::NEG_INFINITY, f64::NAN));
        assert!(!worse.is_worse(f64::NAN, f64::NAN));
        assert!(Direction::TowardZero.is_worse(-2.0, 1.0));
    }
}

//! The accuracy gate: one limit that a report must keep.

use std::fmt;
use std::str::FromStr;

use qloupe_ir::suggestion;

use super::{GateResult, Metrics, Report, View, view::figure_of};
use crate::metrics::{self, Direction, Metric};

/// `[VIEW.]METRIC=X`: the worst value must not be worse than X.
///
/// Without a view the worst network output, or slice of one, of `entire` counts; with a view the worst layer.
///
/// # Example
/// ```
/// use qloupe::report::{Gate, View};
/// let gate: Gate = "local.cosine=0.99".parse().unwrap();
/// assert_eq!((gate.view(), gate.limit()), (Some(View::Local), 0.99));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    view: Option<View>,
    metric: &'static dyn Metric,
    limit: f64,
}

impl Gate {
    /// The view that was named.
    pub fn view(&self) -> Option<View> {
        self.view
    }

    /// The metric.
    pub fn metric(&self) -> &'static dyn Metric {
        self.metric
    }

    /// The limit.
    pub fn limit(&self) -> f64 {
        self.limit
    }
}

/// The gate as it is written.
impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(view) = self.view {
            write!(f, "{}.", view.id())?;
        }
        write!(f, "{}={}", self.metric.id(), self.limit)
    }
}

/// What is wrong with a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// No limit.
    #[error("gate \"{gate}\": limit is missing, expected {form}")]
    NoLimit {
        /// The text.
        gate: String,
        /// How a gate is written.
        form: &'static str,
    },
    /// The limit is no number.
    #[error("gate \"{gate}\": wrong limit, expected a number, got \"{limit}\"")]
    Limit {
        /// The text.
        gate: String,
        /// The part after `=`.
        limit: String,
    },
    /// A name that does not exist.
    #[error("gate \"{gate}\": unknown {what} \"{name}\", expected one of {choices}{help}")]
    Unknown {
        /// The text.
        gate: String,
        /// `view` or `metric`.
        what: &'static str,
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
        /// All names.
        choices: String,
    },
    /// The report has no such numbers.
    #[error("report has no {metric} in view {view}, expected one of the views it has, {present}")]
    Absent {
        /// The metric.
        metric: &'static str,
        /// The view.
        view: &'static str,
        /// The views it has.
        present: String,
    },
}

impl GateError {
    /// Refuses a name in a gate that is none of `choices`.
    pub(crate) fn check_name(
        gate: &str,
        what: &'static str,
        name: &str,
        choices: &[&str],
    ) -> Result<(), Self> {
        if choices.contains(&name) {
            return Ok(());
        }
        Err(Self::Unknown {
            gate: gate.to_owned(),
            what,
            name: name.to_owned(),
            help: suggestion(name, choices.iter().copied()),
            choices: choices.join(", "),
        })
    }
}

/// The parts of `[WHERE.]METRIC=X`; `form` says in messages how such a gate is written.
pub(crate) fn parse_limit<'t>(
    gate: &'t str,
    form: &'static str,
) -> Result<(Option<&'t str>, &'t str, f64), GateError> {
    let (path, limit) = gate.split_once('=').ok_or_else(|| GateError::NoLimit {
        gate: gate.to_owned(),
        form,
    })?;
    let limit = limit.trim();
    let number = limit.parse::<f64>().ok().filter(|number| !number.is_nan());
    let number = number.ok_or_else(|| GateError::Limit {
        gate: gate.to_owned(),
        limit: limit.to_owned(),
    })?;
    Ok(match path.trim().rsplit_once('.') {
        Some((place, metric)) => (Some(place), metric, number),
        None => (None, path.trim(), number),
    })
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let (view, metric, limit) = parse_limit(text, "[VIEW.]METRIC=X, for example sqnr_db=20")?;
        if let Some(view) = view {
            GateError::check_name(text, "view", view, &View::ALL.map(View::id))?;
        }
        let ids: Vec<_> = metrics::ALL.iter().map(|m| m.id()).collect();
        GateError::check_name(text, "metric", metric, &ids)?;
        Ok(Self {
            view: view.and_then(View::from_id),
            metric: metrics::metric(metric).expect("invariant: the id was checked"),
            limit,
        })
    }
}

/// What a gate says of a report; `Display` is one sentence.
#[derive(Clone, Debug)]
pub struct GateOutcome {
    /// True if the limit is kept.
    pub passed: bool,
    /// The worst value.
    pub worst: f64,
    /// `output "x"` or `layer "x"`: where the worst value is.
    pub place: String,
    view: View,
    gate: Gate,
}

impl GateOutcome {
    /// The outcome as a report keeps it.
    pub fn result(&self) -> GateResult {
        GateResult {
            gate: self.gate.to_string(),
            passed: self.passed,
            worst: self.worst,
            place: self.place.clone(),
            words: self.to_string(),
        }
    }
}

impl fmt::Display for GateOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gate { metric, limit, .. } = self.gate;
        let number = |x: f64| match metric.unit() {
            "" | "fraction" => x.to_string(),
            unit => format!("{x:.3} {unit}"),
        };
        let limit = match metric.direction() {
            Direction::Higher => format!("at least {limit}"),
            Direction::Lower => format!("at most {limit}"),
            Direction::TowardZero => format!("at most {} from zero", limit.abs()),
        };
        write!(
            f,
            "accuracy gate {}: the worst {} {} is {} at {}, expected {limit}",
            if self.passed { "passed" } else { "failed" },
            self.view.id(),
            metric.id(),
            number(self.worst),
            self.place,
        )
    }
}

impl Report {
    /// Judges the report by a gate. NaN never passes.
    ///
    /// # Errors
    /// [`GateError::Absent`] if the report does not have the gate's numbers.
    pub fn gate(&self, gate: &Gate) -> Result<GateOutcome, GateError> {
        let metric = gate.metric;
        let figure = |metrics: Option<&Metrics>| metrics.and_then(|m| figure_of(m, metric.id()));
        let view = gate.view.unwrap_or(View::Entire);
        let candidates: Vec<(String, f64)> = match gate.view {
            // A slice of an output counts like an output: a dead score slice hides behind healthy boxes.
            None => self
                .outputs
                .iter()
                .flat_map(|output| {
                    let whole = (format!("output \"{}\"", output.name), view.of_output(output));
                    let slices = output.slices.iter().map(|slice| {
                        let range = format!("{}..{} of axis {}", slice.start, slice.end, slice.axis);
                        (
                            format!("output \"{}\", {range}", output.name),
                            view.of(&slice.views, None),
                        )
                    });
                    std::iter::once(whole).chain(slices).collect::<Vec<_>>()
                })
                .filter_map(|(place, metrics)| Some((place, figure(metrics)?)))
                .collect(),
            Some(view) => self
                .layers
                .iter()
                .filter_map(|l| Some((format!("layer \"{}\"", l.name), figure(view.of_layer(l))?)))
                .collect(),
        };
        let direction = metric.direction();
        let (place, worst) = candidates
            .into_iter()
            .reduce(|worst, next| {
                if direction.is_worse(next.1, worst.1) {
                    next
                } else {
                    worst
                }
            })
            .ok_or_else(|| GateError::Absent {
                metric: metric.id(),
                view: view.id(),
                present: View::of_report(self)
                    .iter()
                    .map(|v| v.id())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        Ok(GateOutcome {
            passed: !direction.is_worse(worst, gate.limit),
            worst,
            place,
            view,
            gate: *gate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn every_wrong_gate_says_what_is_expected() {
        struct Case {
            gate: &'static str,
            expected: &'static str,
        }
        let cases = [
            Case {
                gate: "sqnr_db",
                expected: "gate \"sqnr_db\": limit is missing, expected [VIEW.]METRIC=X, for example sqnr_db=20",
            },
            Case {
                gate: "cosine=high",
                expected: "gate \"cosine=high\": wrong limit, expected a number, got \"high\"",
            },
            Case {
                gate: "cosine=NaN",
                expected: "gate \"cosine=NaN\": wrong limit, expected a number, got \"NaN\"",
            },
            Case {
                gate: "sqnr=20",
                expected: "gate \"sqnr=20\": unknown metric \"sqnr\", expected one of clipped_fraction, cosine, \
                           euclidean, euclidean_rel, max_abs, mean_error, rmse, sqnr_db, sqnr_db_worst, \
                           zero_fraction, did you mean \"sqnr_db\"?",
            },
            Case {
                gate: "lokal.cosine=1",
                expected: "gate \"lokal.cosine=1\": unknown view \"lokal\", expected one of entire, tensor, local, \
                           alone, rescued, runtime.entire, runtime.simulator, runtime.local, did you mean \"local\"?",
            },
        ];
        for case in cases {
            let error = case.gate.parse::<Gate>().unwrap_err();
            assert_eq!(error.to_string(), case.expected);
        }
    }

    #[test]
    fn the_worst_value_decides() {
        struct Case {
            gate: &'static str,
            passed: bool,
            sentence: &'static str,
        }
        let cases = [
            Case {
                gate: "cosine=0.99",
                passed: false,
                sentence: "accuracy gate failed: the worst entire cosine is 0 at output \"output0\", 4..22 of axis 1, expected at least 0.99",
            },
            Case {
                gate: "entire.cosine=0.99",
                passed: false,
                sentence: "accuracy gate failed: the worst entire cosine is 0.906483859692464 at layer \"/model.22/Sigmoid_output_0\", expected at least 0.99",
            },
            Case {
                gate: "sqnr_db=60",
                passed: false,
                sentence: "accuracy gate failed: the worst entire sqnr_db is 0.000 dB at output \"output0\", 4..22 of axis 1, expected at least 60",
            },
            Case {
                gate: "local.max_abs=1000",
                passed: true,
                sentence: "accuracy gate passed: the worst local max_abs is 19.04400062561035 at layer \"output0\", expected at most 1000",
            },
        ];
        for case in cases {
            let outcome = sample().gate(&case.gate.parse().unwrap()).unwrap();
            assert_eq!(
                (outcome.passed, outcome.to_string().as_str()),
                (case.passed, case.sentence)
            );
            let kept = outcome.result();
            assert_eq!(
                (kept.gate.as_str(), kept.words.as_str()),
                (case.gate, case.sentence)
            );
        }
        let error = sample()
            .gate(&"runtime.local.cosine=0.9".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "report has no cosine in view runtime.local, expected one of the views it has, entire, tensor, local"
        );
    }

    #[test]
    fn nan_never_passes() {
        let mut report = sample();
        report.outputs[0].views.entire.get_mut("cosine").unwrap().value = f64::NAN;
        assert!(!report.gate(&"cosine=-1".parse().unwrap()).unwrap().passed);
    }
}

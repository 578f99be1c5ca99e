//! The gate of an evaluation: an accuracy that a precision must keep.

use std::fmt;

use super::{Evaluation, Score};
use crate::report::{GateError, parse_limit};

/// What can be said of every task besides its metrics.
const AGREEMENT: &str = "agreement";
/// The precision that the others agree with.
const FLOAT: &str = "float";

/// `[PRECISION.]METRIC=X`: the share must not be below X. Without a precision the worst of all counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    precision: Option<String>,
    metric: String,
    limit: f64,
}

impl Gate {
    /// Reads a gate on the precisions that are evaluated and the metrics of the task.
    ///
    /// # Errors
    /// [`GateError`] with the choices.
    pub fn parse(
        text: &str,
        precisions: &[&'static str],
        metrics: &[&'static str],
    ) -> Result<Self, GateError> {
        let (precision, metric, limit) =
            parse_limit(text, "[PRECISION.]METRIC=X, for example int8.top1=0.85")?;
        if let Some(precision) = precision {
            GateError::check_name(text, "precision", precision, precisions)?;
        }
        let agrees = precision != Some(FLOAT) && precisions.contains(&FLOAT) && precisions.len() > 1;
        let known: Vec<&str> = metrics
            .iter()
            .copied()
            .chain(agrees.then_some(AGREEMENT))
            .collect();
        GateError::check_name(text, "metric", metric, &known)?;
        Ok(Self {
            precision: precision.map(str::to_owned),
            metric: metric.to_owned(),
            limit,
        })
    }
}

/// What a gate says; `Display` is one sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct GateOutcome {
    /// True if the limit is kept.
    pub passed: bool,
    precision: &'static str,
    metric: String,
    worst: f64,
    limit: f64,
}

impl fmt::Display for GateOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accuracy gate {}: {} {} is {:.4}, expected at least {}",
            if self.passed { "passed" } else { "failed" },
            self.precision,
            self.metric,
            self.worst,
            self.limit
        )
    }
}

impl Evaluation {
    /// Judges the evaluation by a gate; `None` where it has no such figure.
    pub fn gate(&self, gate: &Gate) -> Option<GateOutcome> {
        let wanted = |score: &&Score| gate.precision.as_deref().is_none_or(|id| id == score.precision);
        let figures = self
            .scores
            .iter()
            .filter(wanted)
            .filter_map(|score| Some((score.precision, score.figure(&gate.metric)?)));
        let (precision, worst) = figures.reduce(|worst, next| if next.1 < worst.1 { next } else { worst })?;
        Some(GateOutcome {
            passed: worst >= gate.limit,
            precision,
            metric: gate.metric.clone(),
            worst,
            limit: gate.limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::sample;
    use super::*;

    const ALL: &[&str] = &["float", "int8"];

    #[test]
    fn the_worst_precision_decides() {
        struct Case {
            gate: &'static str,
            sentence: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { gate: "top1=0.85", sentence: "accuracy gate failed: int8 top1 is 0.8000, expected at least 0.85" },
            Case { gate: "float.top1=0.85", sentence: "accuracy gate passed: float top1 is 0.9000, expected at least 0.85" },
            Case { gate: "int8.agreement=0.9", sentence: "accuracy gate passed: int8 agreement is 0.9000, expected at least 0.9" },
        ];
        for Case { gate, sentence } in cases {
            let gate = Gate::parse(gate, ALL, &["top1"]).unwrap();
            assert_eq!(sample().gate(&gate).unwrap().to_string(), sentence);
        }
        let gate = Gate::parse("fp16.top1=0.85", &["fp16"], &["top1"]).unwrap();
        assert_eq!(sample().gate(&gate), None, "fp16 did not run");
    }

    #[test]
    fn every_wrong_gate_says_what_is_expected() {
        struct Case {
            gate: &'static str,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { gate: "top1", error: "gate \"top1\": limit is missing, expected [PRECISION.]METRIC=X, for example int8.top1=0.85" },
            Case { gate: "top1=x", error: "gate \"top1=x\": wrong limit, expected a number, got \"x\"" },
            Case { gate: "int4.top1=1", error: "gate \"int4.top1=1\": unknown precision \"int4\", expected one of float, int8, did you mean \"int8\"?" },
            Case { gate: "int8.top2=1", error: "gate \"int8.top2=1\": unknown metric \"top2\", expected one of top1, agreement, did you mean \"top1\"?" },
            Case { gate: "float.agreement=1", error: "gate \"float.agreement=1\": unknown metric \"agreement\", expected one of top1" },
        ];
        for Case { gate, error } in cases {
            assert_eq!(Gate::parse(gate, ALL, &["top1"]).unwrap_err().to_string(), error);
        }
    }
}

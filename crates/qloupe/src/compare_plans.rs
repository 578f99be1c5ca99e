//! Several plans of one network side by side: every wanted algorithm and method, judged on the same samples.
//!
//! The network runs in float on the calibration samples once; what was seen serves every algorithm.

mod contest;
mod table;

use crate::Error;
use crate::evaluate::{Hits, Question};
use crate::quantize::{QuantizeOptions, Stages};
use crate::report::{Metrics, Report, View, figure_of, worst_layers};
use crate::samples::{Dataset, Labelled};
use crate::session::Session;
use contest::Contest;
use qloupe_exec::Mode;

/// What plans are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'a> {
    /// Samples on which the float network and the network under the plan are compared.
    pub samples: &'a Dataset,
    /// How quantized units compute.
    pub mode: Mode,
    /// Samples with the right answers, and what is asked about them.
    pub task: Option<(&'a Labelled, &'a Question)>,
}

/// The place where a plan is furthest from the float network.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// The value.
    pub name: String,
    /// Which part of it: axis, first index, index after the last; `None` for all of it.
    pub slice: Option<(usize, usize, usize)>,
    /// The signal to noise ratio in dB, pooled over the samples; higher is better.
    pub sqnr_db: f64,
    /// The mean cosine; `None` where it has none.
    pub cosine: Option<f64>,
}

/// One plan and how well it does.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRow {
    /// The calibration algorithm.
    pub algorithm: String,
    /// `channel` or `layer`.
    pub method: &'static str,
    /// The unit output with the lowest SQNR of view `entire`; `None` where all are exact.
    pub worst_unit: Option<Worst>,
    /// The network output, or slice of one, with the lowest SQNR; `None` where no output is a float value.
    pub worst_output: Option<Worst>,
    /// Right answers by metric of the task; empty without labels.
    pub accuracy: Vec<(&'static str, Hits)>,
    /// Wall time of planning, comparing and evaluating, without the calibration that all plans share.
    pub seconds: f64,
}

/// Plans side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanComparison {
    /// The model file.
    pub model: String,
    /// The target.
    pub target: &'static str,
    /// `integer` or `fake-quant`.
    pub mode: &'static str,
    /// Samples that plans are compared on.
    pub n_samples: usize,
    /// Samples that the ranges are of.
    pub n_calibration: usize,
    /// Wall time of the calibration, which all rows share.
    pub calibration_seconds: f64,
    /// Samples with labels; 0 without.
    pub n_labelled: usize,
    /// Right answers of the float network; empty without labels.
    pub float_accuracy: Vec<(&'static str, Hits)>,
    /// One for each plan, in the order in which they were asked for.
    pub rows: Vec<PlanRow>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl PlanComparison {
    /// The place of the best row: the most right answers to the first metric of the task, then the highest SQNR of the
    /// worst network output; the first where several are alike.
    pub fn best(&self) -> Option<usize> {
        let hits = |row: &PlanRow| row.accuracy.first().map_or(0, |(_, hits)| hits.n_hits);
        let sqnr_db = |row: &PlanRow| {
            row.worst_output
                .as_ref()
                .map_or(f64::INFINITY, |w| ranked(w.sqnr_db))
        };
        let is_better =
            |row: &PlanRow, than: &PlanRow| (hits(row), sqnr_db(row)) > (hits(than), sqnr_db(than));
        let mut best = 0;
        for (idx, row) in self.rows.iter().enumerate() {
            if is_better(row, &self.rows[best]) {
                best = idx;
            }
        }
        (!self.rows.is_empty()).then_some(best)
    }
}

/// NaN is the worst: nothing could be compared.
fn ranked(sqnr_db: f64) -> f64 {
    if sqnr_db.is_nan() {
        f64::NEG_INFINITY
    } else {
        sqnr_db
    }
}

/// Calibrates once and judges the plan of each of `options`, which are of one target and differ in algorithm and method.
///
/// # Errors
/// No options, a target without integers, and everything [`crate::quantize::quantize`] and the runs can fail at.
pub fn compare_plans(
    session: &Session,
    calibration: &Dataset,
    options: &[QuantizeOptions],
    examination: Examination<'_>,
    stages: Stages<'_>,
) -> Result<PlanComparison, Error> {
    Contest::new(session, calibration, options, examination, stages)?.run()
}

/// The unit that is furthest from the float network: network inputs are none.
fn worst_unit(report: &Report) -> Option<Worst> {
    let ranked = worst_layers(report, View::Entire, report.layers.len());
    let (layer, sqnr_db) = ranked.into_iter().find(|(layer, _)| !layer.node.is_empty())?;
    Some(Worst {
        name: layer.name.clone(),
        slice: None,
        sqnr_db,
        cosine: figure_of(&layer.views.entire, "cosine"),
    })
}

/// The output that is furthest from the float network. A slice counts as an output: dead scores hide behind healthy boxes.
fn worst_output(report: &Report) -> Option<Worst> {
    let worst = |name: &str, slice, entire: &Metrics| {
        Some(Worst {
            name: name.to_owned(),
            slice,
            sqnr_db: figure_of(entire, "sqnr_db")?,
            cosine: figure_of(entire, "cosine"),
        })
    };
    let mut all: Vec<Worst> = Vec::new();
    for output in &report.outputs {
        all.extend(worst(&output.name, None, &output.views.entire));
        let slices = output.slices.iter();
        all.extend(
            slices.filter_map(|s| worst(&output.name, Some((s.axis, s.start, s.end)), &s.views.entire)),
        );
    }
    all.into_iter()
        .min_by(|a, b| ranked(a.sqnr_db).total_cmp(&ranked(b.sqnr_db)))
}

#[cfg(test)]
mod tests;

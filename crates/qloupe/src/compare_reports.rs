//! What moved between two reports of one model, or of slightly different ones: outputs, layers, settings, findings.
//!
//! Report A is the one before, B the one after: a change is B minus A, and more dB are better.

mod findings;
mod json;
mod read;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod unmatched;

use std::collections::BTreeMap;

use crate::Error;
use crate::report::{Layer, Metrics, Report, View, figure_of, headline, slice_words};

pub use findings::{FindingMove, FindingState};
pub use read::{parse_report, read_report};
pub use settings::{Setting, SettingChange, SettingsMove};
pub use table::TableOptions;
pub use unmatched::Unmatched;

/// Changes below this many dB are noise in a table.
const NOISE_DB: f64 = 0.05;

/// Two reports side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportComparison {
    /// The report before.
    pub a: Side,
    /// The report after.
    pub b: Side,
    /// What was not the same to begin with, what matters most first.
    pub differences: Vec<Difference>,
    /// Network outputs and parts of them that both have, the largest movement first.
    pub outputs: Vec<Move>,
    /// Layers that both have, the largest movement first.
    pub layers: Vec<Move>,
    /// Findings that only one has, or that changed their severity; the most severe first.
    pub findings: Vec<FindingMove>,
    /// Layers whose precision, scale, zero point or range differ, the largest change first.
    pub settings: Vec<SettingsMove>,
    /// Layers and outputs of A that B does not have.
    pub only_a: Vec<Unmatched>,
    /// Layers and outputs of B that A does not have.
    pub only_b: Vec<Unmatched>,
}

/// One of the two reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The file, as the user named it.
    pub file: String,
    /// What was analyzed, in one line.
    pub headline: String,
}

/// Something that is not the same in both reports, so that figures may differ for another reason than the quantization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: `samples`, `target`, ...
    pub what: &'static str,
    /// In A.
    pub a: String,
    /// In B.
    pub b: String,
}

/// How the errors of one place moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The layer, or the output with the indices of the part that is meant.
    pub name: String,
    /// The operator; empty for an output.
    pub op_type: String,
    /// True where every tested value is 0, in A and in B; layers are not judged.
    pub dead: (bool, bool),
    /// The views that both have, in the order of tables.
    pub views: Vec<ViewMove>,
}

/// How the error of one view moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewMove {
    /// The view.
    pub view: View,
    /// `sqnr_db` in A.
    pub a: f64,
    /// `sqnr_db` in B.
    pub b: f64,
}

impl ViewMove {
    /// B minus A in dB, more is better. NaN is worse than everything: nothing could be compared.
    pub fn change_db(&self) -> f64 {
        match (self.a.is_nan(), self.b.is_nan()) {
            (true, true) => 0.0,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            // Equal infinities: their difference is no number.
            (false, false) if self.a.total_cmp(&self.b).is_eq() => 0.0,
            (false, false) => self.b - self.a,
        }
    }
}

impl Move {
    /// The change of a view; `None` if one report lacks it.
    pub fn change_db(&self, view: View) -> Option<f64> {
        let found = self.views.iter().find(|moved| moved.view == view);
        found.map(ViewMove::change_db)
    }

    /// The largest change of a view, without its sign.
    pub fn size_db(&self) -> f64 {
        let sizes = self.views.iter().map(|view| view.change_db().abs());
        sizes.fold(0.0, f64::max)
    }

    /// True if a view moved by more than noise.
    pub fn is_moved(&self) -> bool {
        self.size_db() >= NOISE_DB || self.dead.0 != self.dead.1
    }
}

/// What the gate on regressions says; `Display` is one sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// True if no output lost more than the limit.
    pub passed: bool,
    /// The sentence.
    pub words: String,
}

impl ReportComparison {
    /// Compares report `b` with report `a`; the names are those of their files.
    pub fn new((file_a, a): (&str, &Report), (file_b, b): (&str, &Report)) -> Self {
        let side = |file: &str, report: &Report| Side {
            file: file.to_owned(),
            headline: headline(report),
        };
        let layers_a: BTreeMap<&str, &Layer> = a.layers.iter().map(|l| (l.name.as_str(), l)).collect();
        let both = || {
            let pair = |layer| Some((*layers_a.get(by_name(layer))?, layer));
            b.layers.iter().filter_map(pair)
        };
        let mut layers: Vec<Move> = both().map(|(a, b)| layer_move(a, b)).collect();
        let mut outputs = output_moves(a, b);
        // Stable: what moved alike stays in the order of the report.
        for moves in [&mut layers, &mut outputs] {
            moves.sort_by(|x, y| y.size_db().total_cmp(&x.size_db()));
        }
        let (only_a, only_b) = unmatched::find(a, b);
        Self {
            a: side(file_a, a),
            b: side(file_b, b),
            differences: differences(a, b),
            outputs,
            layers,
            findings: findings::compare(&a.findings, &b.findings),
            settings: settings::compare(both()),
            only_a,
            only_b,
        }
    }

    /// Judges B: no network output, and no part of one, may have lost more than `limit_db` of `sqnr_db` in view `entire`,
    /// and none may be gone.
    ///
    /// # Errors
    /// [`Error::Options`] where both reports have no output with this figure.
    pub fn regression(&self, limit_db: f64) -> Result<Regression, Error> {
        let entire = |moved: &Move| moved.views.iter().copied().find(|v| v.view == View::Entire);
        let judged = self.outputs.iter().filter_map(|o| Some((o, entire(o)?)));
        let worst = judged.min_by(|x, y| x.1.change_db().total_cmp(&y.1.change_db()));
        let (output, moved) = worst.ok_or_else(|| {
            Error::Options(format!(
                "{}: no network output of both reports has sqnr_db in view entire, expected at least one",
                self.b.file
            ))
        })?;
        if let Some(gone) = self.only_a.iter().find(|place| place.is_output) {
            return Ok(Regression {
                passed: false,
                words: format!(
                    "regression gate failed: output \"{}\" is in {} only",
                    gone.name, self.a.file
                ),
            });
        }
        let passed = moved.change_db() >= -limit_db;
        Ok(Regression {
            passed,
            words: format!(
                "regression gate {}: the worst change of entire sqnr_db is {:+.2} dB, from {:.2} to {:.2}, at output \
                 {}, expected at most {limit_db} dB less",
                if passed { "passed" } else { "failed" },
                moved.change_db(),
                moved.a,
                moved.b,
                output.name,
            ),
        })
    }
}

fn by_name(layer: &Layer) -> &str {
    &layer.name
}

fn layer_move(a: &Layer, b: &Layer) -> Move {
    Move {
        name: b.name.clone(),
        op_type: b.op_type.clone(),
        dead: (false, false),
        views: view_moves(|view| (view.of_layer(a), view.of_layer(b))),
    }
}

/// The outputs that both have, and the parts of them that both have.
fn output_moves(a: &Report, b: &Report) -> Vec<Move> {
    let mut moves = Vec::new();
    for after in &b.outputs {
        let Some(before) = a.outputs.iter().find(|o| o.name == after.name) else {
            continue;
        };
        moves.push(Move {
            name: after.name.clone(),
            op_type: String::new(),
            dead: (before.dead, after.dead),
            views: view_moves(|view| (view.of_output(before), view.of_output(after))),
        });
        for slice in &after.slices {
            let place = |s: &crate::report::Slice| (s.axis, s.start, s.end);
            let Some(old) = before.slices.iter().find(|s| place(s) == place(slice)) else {
                continue;
            };
            moves.push(Move {
                name: format!("{} {}", after.name, slice_words(slice, after.shape.len())),
                op_type: String::new(),
                dead: (old.dead, slice.dead),
                views: view_moves(|view| (view.of(&old.views, None), view.of(&slice.views, None))),
            });
        }
    }
    moves
}

fn view_moves<'r>(of: impl Fn(View) -> (Option<&'r Metrics>, Option<&'r Metrics>)) -> Vec<ViewMove> {
    let sqnr_db = |metrics: Option<&Metrics>| figure_of(metrics?, "sqnr_db");
    let moved = |view| {
        let (a, b) = of(view);
        Some(ViewMove {
            view,
            a: sqnr_db(a)?,
            b: sqnr_db(b)?,
        })
    };
    View::ALL.into_iter().filter_map(moved).collect()
}

fn differences(a: &Report, b: &Report) -> Vec<Difference> {
    let model = |report: &Report| {
        let model = &report.model;
        format!(
            "{} ({} nodes, {} parameters, opset {})",
            model.file, model.n_nodes, model.n_params, model.opset
        )
    };
    let of = |what, value: &dyn Fn(&Report) -> String| Difference {
        what,
        a: value(a),
        b: value(b),
    };
    let each = [
        of("schema", &|r| r.schema.clone()),
        of("samples", &|r| {
            format!("{} from {}", r.samples.n, r.samples.source)
        }),
        of("target", &|r| r.target.clone()),
        of("mode", &|r| r.mode.clone()),
        of("model", &model),
        of("algorithm", &|r| r.plan.algorithm.clone()),
        of("method", &|r| r.plan.method.clone()),
        of("optimization level", &|r| r.plan.optimization_level.to_string()),
        of("calibration samples", &|r| r.samples.n_calibration.to_string()),
        of("written by", &|r| format!("{} {}", r.tool.name, r.tool.version)),
    ];
    each.into_iter().filter(|d| d.a != d.b).collect()
}

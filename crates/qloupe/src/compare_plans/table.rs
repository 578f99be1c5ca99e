//! Plans side by side as an aligned table and as JSON.

use serde_json::{Value, json};

use super::{PlanComparison, PlanRow, Worst};
use crate::evaluate::Hits;
use crate::report::grid::{Align, Cell, Grid, Style, printable};

/// The version of the JSON form.
const SCHEMA: &str = "qloupe-plan-comparison/1";

impl PlanComparison {
    /// The table, for a terminal; `colour` highlights the best row.
    pub fn to_text(&self, colour: bool) -> String {
        let Self {
            n_samples,
            n_calibration,
            ..
        } = self;
        let mut lines = vec![
            printable(&format!("{} on {}: {}", self.model, self.target, self.mode)),
            format!(
                "{n_samples} samples; calibrated once on {n_calibration} in {:.2} s",
                self.calibration_seconds
            ),
        ];
        if !self.float_accuracy.is_empty() {
            let figures = self.float_accuracy.iter();
            let figures: Vec<String> = figures
                .map(|(id, hits)| format!("{id} {:.4}", hits.share()))
                .collect();
            lines.push(format!(
                "{} samples with labels; float: {}",
                self.n_labelled,
                figures.join(", ")
            ));
        }
        lines.push(String::new());
        lines.extend(self.grid().lines(0, colour));
        if let Some(best) = self.best().filter(|_| self.rows.len() > 1) {
            let PlanRow {
                algorithm, method, ..
            } = &self.rows[best];
            let by = self
                .float_accuracy
                .first()
                .map_or_else(String::new, |(id, _)| format!("{id}, then by "));
            lines.push(String::new());
            lines.push(format!("best by {by}worst output: {algorithm}, {method}"));
        }
        lines.push("worst unit, worst output: entire, sqnr in dB".to_owned());
        lines.extend(self.notes.iter().map(|note| format!("note: {}", printable(note))));
        lines.join("\n") + "\n"
    }

    fn grid(&self) -> Grid {
        let metrics: Vec<&str> = self.float_accuracy.iter().map(|(id, _)| *id).collect();
        let mut head = vec![
            "algorithm",
            "method",
            "worst unit",
            "sqnr",
            "worst output",
            "sqnr",
            "cosine",
        ];
        head.extend(&metrics);
        head.push("seconds");
        let mut align = vec![Align::Right; head.len()];
        for column in [0, 1, 2, 4] {
            align[column] = Align::Left;
        }
        let mut grid = Grid::new(align);
        grid.push(head.into_iter().map(Cell::plain).collect());
        for (idx, row) in self.rows.iter().enumerate() {
            let style = if self.best() == Some(idx) && self.rows.len() > 1 {
                Style::Bold
            } else {
                Style::Plain
            };
            grid.push(
                cells(row)
                    .into_iter()
                    .map(|text| Cell::new(text, style))
                    .collect(),
            );
        }
        grid
    }

    /// The same as JSON, numbers in full precision.
    pub fn to_json(&self) -> Value {
        let best = self.best();
        let row = |(idx, row): (usize, &PlanRow)| {
            json!({
                "algorithm": row.algorithm,
                "method": row.method,
                "worst_unit": row.worst_unit.as_ref().map(worst_json),
                "worst_output": row.worst_output.as_ref().map(worst_json),
                "accuracy": accuracy_json(&row.accuracy),
                "seconds": row.seconds,
                "best": best == Some(idx),
            })
        };
        json!({
            "schema": SCHEMA,
            "model": self.model,
            "target": self.target,
            "mode": self.mode,
            "n_samples": self.n_samples,
            "n_calibration": self.n_calibration,
            "calibration_seconds": self.calibration_seconds,
            "n_labelled": self.n_labelled,
            "float_accuracy": accuracy_json(&self.float_accuracy),
            "rows": self.rows.iter().enumerate().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn cells(row: &PlanRow) -> Vec<String> {
    let place = |worst: &Worst| match worst.slice {
        Some((_, start, end)) => format!("{} [{start}..{end}]", worst.name),
        None => worst.name.clone(),
    };
    let mut cells = vec![row.algorithm.clone(), row.method.to_owned()];
    for (worst, exact) in [(&row.worst_unit, "all exact"), (&row.worst_output, "-")] {
        cells.push(worst.as_ref().map_or_else(|| exact.to_owned(), place));
        cells.push(
            worst
                .as_ref()
                .map_or_else(|| "-".to_owned(), |w| format!("{:.2}", w.sqnr_db)),
        );
    }
    let cosine = row.worst_output.as_ref().and_then(|worst| worst.cosine);
    cells.push(cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.6}")));
    cells.extend(
        row.accuracy
            .iter()
            .map(|(_, hits)| format!("{:.4}", hits.share())),
    );
    cells.push(format!("{:.2}", row.seconds));
    cells
}

/// NaN and the infinities, which JSON does not have, are strings.
fn number(x: f64) -> Value {
    if x.is_finite() {
        json!(x)
    } else {
        json!(x.to_string())
    }
}

fn worst_json(worst: &Worst) -> Value {
    let slice = worst
        .slice
        .map(|(axis, start, end)| json!({ "axis": axis, "start": start, "end": end }));
    json!({
        "name": worst.name,
        "slice": slice,
        "sqnr_db": number(worst.sqnr_db),
        "cosine": worst.cosine.map(number),
    })
}

fn accuracy_json(metrics: &[(&'static str, Hits)]) -> Value {
    let figure = |(id, hits): &(&'static str, Hits)| {
        (
            (*id).to_owned(),
            json!({ "value": hits.share(), "n_hits": hits.n_hits, "n": hits.n }),
        )
    };
    Value::Object(metrics.iter().map(figure).collect())
}

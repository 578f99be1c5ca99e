//! An evaluation as an aligned table and as JSON.

use serde_json::{Value, json};

use super::{Evaluation, Hits, Score};
use crate::report::grid::{Align, Cell, Grid, printable};

/// The version of the JSON form.
const SCHEMA: &str = "qloupe-evaluation/1";

impl Evaluation {
    /// The table, for a terminal.
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!(
            "{}: {} on output \"{}\", {}, {} samples from {}",
            self.model, self.task, self.output, self.about, self.n_samples, self.labels
        )];
        let known = |precision: &&str| *precision != "float" && *precision != "fp16";
        let word = self.scores.iter().map(|score| score.precision).find(known);
        lines.extend(
            self.int8
                .iter()
                .map(|how| format!("{}: {how}", word.unwrap_or("int8"))),
        );
        let mut lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
        lines.push(String::new());
        lines.extend(self.grid().lines(0, false));
        for score in self.scores.iter().filter(|score| score.n_nan > 0) {
            let (precision, n_nan) = (score.precision, score.n_nan);
            lines.push(format!(
                "note: {precision}: the output of {n_nan} samples holds NaN"
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {}", printable(note))));
        lines.join("\n") + "\n"
    }

    fn grid(&self) -> Grid {
        let metrics: Vec<&str> = self.scores.first().map_or_else(Vec::new, |score| {
            score.metrics.iter().map(|(id, _)| *id).collect()
        });
        let mut head = vec!["precision"];
        for (idx, metric) in metrics.iter().enumerate() {
            head.push(metric);
            if idx == 0 {
                head.push("95% interval");
            }
        }
        head.extend(["agreement", "flips", "seconds"]);
        let mut align = vec![Align::Right; head.len()];
        align[0] = Align::Left;
        let mut grid = Grid::new(align);
        grid.push(head.into_iter().map(Cell::plain).collect());
        for score in &self.scores {
            grid.push(row(score));
        }
        grid
    }

    /// The same as JSON, numbers in full precision.
    pub fn to_json(&self) -> Value {
        let score = |score: &Score| {
            let metrics: serde_json::Map<String, Value> = score
                .metrics
                .iter()
                .map(|(id, hits)| ((*id).to_owned(), hits_json(*hits)))
                .collect();
            json!({
                "precision": score.precision,
                "metrics": metrics,
                "agreement": score.agreement.map(hits_json),
                "flips": score.agreement.map(|hits| hits.n - hits.n_hits),
                "n_nan": score.n_nan,
                "seconds": score.seconds,
            })
        };
        json!({
            "schema": SCHEMA,
            "model": self.model,
            "task": self.task,
            "output": self.output,
            "about": self.about,
            "labels": self.labels,
            "n_samples": self.n_samples,
            "int8": self.int8,
            "scores": self.scores.iter().map(score).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn row(score: &Score) -> Vec<Cell> {
    let share = |hits: Hits| Cell::plain(format!("{:.4}", hits.share()));
    let mut cells = vec![Cell::plain(score.precision)];
    for (idx, (_, hits)) in score.metrics.iter().enumerate() {
        cells.push(share(*hits));
        if idx == 0 {
            let (low, high) = hits.wilson_interval();
            cells.push(Cell::plain(format!("{low:.3} .. {high:.3}")));
        }
    }
    match score.agreement {
        Some(hits) => {
            cells.push(share(hits));
            cells.push(Cell::plain((hits.n - hits.n_hits).to_string()));
        }
        None => cells.extend([Cell::plain("-"), Cell::plain("-")]),
    }
    cells.push(Cell::plain(format!("{:.2}", score.seconds)));
    cells
}

fn hits_json(hits: Hits) -> Value {
    let (low, high) = hits.wilson_interval();
    json!({ "value": hits.share(), "low": low, "high": high, "n_hits": hits.n_hits, "n": hits.n })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Ten samples in float and int8.
    pub(in crate::evaluate) fn sample() -> Evaluation {
        let hits = |n_hits| Hits { n_hits, n: 10 };
        let score = |precision, n_hits, agreement| Score {
            precision,
            metrics: vec![("top1", hits(n_hits)), ("top5", hits(10))],
            agreement,
            n_nan: usize::from(agreement.is_some()),
            seconds: 1.25,
        };
        Evaluation {
            model: "m.onnx".to_owned(),
            task: "top1",
            output: "y".to_owned(),
            about: "10 classes".to_owned(),
            labels: "l.csv".to_owned(),
            n_samples: 10,
            int8: Some("onnxruntime".to_owned()),
            scores: vec![score("float", 9, None), score("int8", 8, Some(hits(9)))],
            notes: vec!["a\tnote".to_owned()],
        }
    }

    #[test]
    fn precisions_stand_side_by_side() {
        let expected = "m.onnx: top1 on output \"y\", 10 classes, 10 samples from l.csv
int8: onnxruntime

precision    top1    95% interval    top5  agreement  flips  seconds
float      0.9000  0.596 .. 0.982  1.0000          -      -     1.25
int8       0.8000  0.490 .. 0.943  1.0000     0.9000      1     1.25
note: int8: the output of 1 samples holds NaN
note: a\u{fffd}note
";
        assert_eq!(sample().to_text(), expected);
    }

    #[test]
    fn json_has_every_number() {
        let json = sample().to_json();
        assert_eq!(json["schema"], "qloupe-evaluation/1");
        let int8 = &json["scores"][1];
        assert_eq!(
            (&int8["metrics"]["top1"]["value"], &int8["flips"]),
            (&json!(0.8), &json!(1))
        );
        assert_eq!(int8["agreement"]["n_hits"], 9);
        assert_eq!(json["scores"][0]["agreement"], Value::Null);
    }
}

//! Two reports side by side as JSON.

use serde_json::{Map, Value, json};

use super::{FindingState, Move, ReportComparison, SettingsMove, Unmatched};

/// The version of the JSON form.
const SCHEMA: &str = "qloupe-report-comparison/1";

impl ReportComparison {
    /// Everything, numbers in full precision; the infinities are the strings `inf` and `-inf`.
    pub fn to_json(&self) -> Value {
        let side = |side: &super::Side| json!({ "file": side.file, "headline": side.headline });
        let finding = |moved: &super::FindingMove| {
            let (state, was) = match moved.state {
                FindingState::New => ("new", None),
                FindingState::Gone => ("gone", None),
                FindingState::Was(severity) => ("changed", Some(severity.name())),
            };
            let finding = &moved.finding;
            json!({
                "state": state,
                "severity_before": was,
                "id": finding.id,
                "severity": finding.severity.name(),
                "layer": finding.layer,
                "cause": finding.cause,
                "evidence": finding.evidence,
                "fix": finding.fix,
            })
        };
        let difference = |d: &super::Difference| json!({ "what": d.what, "a": d.a, "b": d.b });
        json!({
            "schema": SCHEMA,
            "a": side(&self.a),
            "b": side(&self.b),
            "differences": self.differences.iter().map(difference).collect::<Vec<_>>(),
            "outputs": self.outputs.iter().map(move_json).collect::<Vec<_>>(),
            "layers": self.layers.iter().map(move_json).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "settings": self.settings.iter().map(settings_json).collect::<Vec<_>>(),
            "only_a": self.only_a.iter().map(unmatched_json).collect::<Vec<_>>(),
            "only_b": self.only_b.iter().map(unmatched_json).collect::<Vec<_>>(),
        })
    }
}

fn move_json(moved: &Move) -> Value {
    let view = |view: &super::ViewMove| {
        let figures = json!({
            "a": number(view.a),
            "b": number(view.b),
            "change": number(view.change_db()),
        });
        (view.view.id().to_owned(), figures)
    };
    let views: Map<String, Value> = moved.views.iter().map(view).collect();
    json!({
        "name": moved.name,
        "op_type": moved.op_type,
        "dead_a": moved.dead.0,
        "dead_b": moved.dead.1,
        "sqnr_db": views,
    })
}

fn settings_json(moved: &SettingsMove) -> Value {
    let change = |change: &super::SettingChange| {
        let words = Value::String(change.words.clone());
        (change.setting.id().to_owned(), words)
    };
    let changes: Map<String, Value> = moved.changes.iter().map(change).collect();
    json!({ "layer": moved.layer, "changes": changes, "size": number(moved.size) })
}

fn unmatched_json(place: &Unmatched) -> Value {
    json!({ "name": place.name, "is_output": place.is_output, "nearest": place.nearest })
}

/// NaN and the infinities, which JSON does not have, are strings.
fn number(x: f64) -> Value {
    if x.is_finite() {
        json!(x)
    } else {
        Value::String(x.to_string())
    }
}

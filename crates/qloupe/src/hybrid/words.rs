//! A proposal for people, and as JSON.

use serde_json::{Value, json};

use super::{HybridUnit, Proposal, Standing};

impl Proposal {
    /// The units that the proposal raises.
    pub fn raised(&self) -> impl Iterator<Item = &HybridUnit> {
        self.units.iter().filter(|unit| unit.is_raised)
    }

    /// The goal, what was reached, and every unit that is raised, a line each.
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            format!("goal: {}", self.goal),
            format!("before: {}", standing_words(&self.before)),
            format!("after:  {}", standing_words(&self.after)),
            format!(
                "{} of {} units raised, {:.2}% of the multiply-accumulates; {} sets were run",
                self.raised().count(),
                self.units.len(),
                100.0 * self.cost,
                self.n_trials
            ),
        ];
        if !self.is_reached {
            lines.push(format!(
                "the goal is not reached: with every unit raised it is {}",
                standing_words(&self.best)
            ));
        }
        lines.extend(self.raised().map(unit_words));
        lines.join("\n")
    }

    /// Everything but the plan; the infinities are the strings `inf` and `-inf`.
    pub fn to_json(&self) -> Value {
        let units = self.units.iter().map(|unit| {
            json!({
                "value": unit.value,
                "unit": unit.unit,
                "precision": unit.precision,
                "is_raised": unit.is_raised,
                "gain_db": unit.gain_db.map(number),
                "cost": unit.cost,
                "reason": unit.reason,
            })
        });
        json!({
            "goal": self.goal.to_string(),
            "reached": self.is_reached,
            "before": standing_json(&self.before),
            "after": standing_json(&self.after),
            "best": standing_json(&self.best),
            "cost": self.cost,
            "n_trials": self.n_trials,
            "units": units.collect::<Vec<_>>(),
        })
    }
}

fn unit_words(unit: &HybridUnit) -> String {
    let gain = unit
        .gain_db
        .map_or_else(|| "n/a".to_owned(), |gain| format!("{gain:+.2} dB"));
    format!(
        "  {} {} ({}): rescued {gain}, {:.2}% of the multiply-accumulates",
        unit.precision,
        unit.value,
        unit.unit,
        100.0 * unit.cost
    )
}

fn standing_words(standing: &Standing) -> String {
    let drop = standing
        .drop
        .map_or_else(String::new, |drop| format!(", {drop:.2} points lost"));
    format!(
        "{:.2} dB, cosine {:.5} at the worst output ({}){drop}",
        standing.marks.worst_db, standing.marks.worst_cosine, standing.marks.worst
    )
}

fn standing_json(standing: &Standing) -> Value {
    json!({
        "worst_sqnr_db": number(standing.marks.worst_db),
        "worst_cosine": standing.marks.worst_cosine,
        "worst_output": standing.marks.worst,
        "drop": standing.drop,
    })
}

/// NaN and the infinities, which JSON does not have, are strings.
fn number(x: f64) -> Value {
    if x.is_finite() {
        json!(x)
    } else {
        Value::String(x.to_string())
    }
}

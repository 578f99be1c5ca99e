//! The file of a proposal: TOML, one line for each unit, made to be edited by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qloupe_ir::suggestion;
use serde::Deserialize;

use super::{HybridUnit, Proposal};
use crate::Error;
use crate::plan::{QuantPlan, precision_word};
use crate::prepare::Prepared;
use crate::ranges::original;
use crate::rknn_cfg::{RknnCfg, is_rknn_cfg};

/// The value of `schema`.
const SCHEMA: &str = "qloupe-hybrid/1";
/// The precisions that a line may name beside that of the plan.
const REAL: &[&str] = &["float", "fp16"];

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct HybridFile {
    /// The file, for messages.
    file: String,
    /// The plan that the precisions are set in, as a path from the file; the vendor's file tells none.
    pub plan: Option<String>,
    /// The precision of units, by the value that each writes.
    precisions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    schema: String,
    plan: String,
    units: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "written for the reader, ignored when read back")]
struct Entry {
    precision: String,
    gain_db: Option<f64>,
    cost_percent: Option<f64>,
    unit: Option<String>,
    reason: Option<String>,
}

/// The text of a proposal; `plan` is the file of the plan, as a path from the file.
pub fn format_hybrid(proposal: &Proposal, plan: &str) -> String {
    let mut lines = vec![
        "# Hybrid quantization. One line for each unit, by the value that it writes: edit `precision` (int8 as in the plan,"
            .to_owned(),
        "# fp16, float), then `qloupe hybrid apply MODEL --hybrid THIS`. gain_db: what is won at the outputs without the"
            .to_owned(),
        "# unit's error; cost_percent: its part of all multiply-accumulates.".to_owned(),
        format!("schema = {}", quoted(SCHEMA)),
        format!("plan = {}", quoted(plan)),
        "\n[units]".to_owned(),
    ];
    lines.extend(proposal.units.iter().map(format_unit));
    lines.join("\n") + "\n"
}

fn format_unit(unit: &HybridUnit) -> String {
    let mut fields = vec![format!("precision = {}", quoted(&unit.precision))];
    if let Some(gain) = unit.gain_db.filter(|gain| gain.is_finite()) {
        fields.push(format!("gain_db = {gain:.2}"));
    }
    fields.push(format!("cost_percent = {:.2}", 100.0 * unit.cost));
    fields.push(format!("unit = {}", quoted(&unit.unit)));
    if !unit.reason.is_empty() {
        fields.push(format!("reason = {}", quoted(&unit.reason)));
    }
    format!("{} = {{ {} }}", quoted(&unit.value), fields.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// How a file names the plan that it edits: by its name where both are in one folder, else by all of its path.
pub fn plan_reference(plan: &Path, file: &Path) -> String {
    let folder = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    match plan.file_name() {
        Some(name) if folder(plan) == folder(file) => name.to_string_lossy().into_owned(),
        _ => std::path::absolute(plan)
            .unwrap_or_else(|_| plan.to_path_buf())
            .display()
            .to_string(),
    }
}

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, that is no such file, a precision that does not exist.
pub fn read_hybrid(path: &Path) -> Result<HybridFile, Error> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Error::File {
        path: path.to_owned(),
        what: format!("cannot be read: {e}"),
    })?;
    let wrong = |what: String| Error::Plan {
        file: file.clone(),
        what,
    };
    if is_rknn_cfg(&text) {
        let cfg = RknnCfg::parse(&text).map_err(wrong)?;
        return Ok(HybridFile {
            plan: None,
            precisions: cfg
                .layers
                .iter()
                .map(|layer| (layer.name.clone(), layer.dtype.clone()))
                .collect(),
            file,
        });
    }
    let contents: Contents = toml::from_str(&text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
    if contents.schema != SCHEMA {
        return Err(wrong(format!(
            "schema is wrong, expected \"{SCHEMA}\", got \"{}\"",
            contents.schema
        )));
    }
    let precisions = contents
        .units
        .into_iter()
        .map(|(value, entry)| (value, entry.precision));
    Ok(HybridFile {
        plan: Some(contents.plan),
        precisions: precisions.collect(),
        file,
    })
}

impl HybridFile {
    /// Where the plan is that the file edits; the vendor's file tells none.
    pub fn plan_path(&self) -> Option<PathBuf> {
        let plan = self.plan.as_ref()?;
        Some(Path::new(&self.file).with_file_name(plan))
    }

    /// The plan with the precisions of the file. A precision that a value has already changes nothing.
    ///
    /// # Errors
    /// All names that the plan does not have, each with the nearest; precisions that cannot be set.
    pub fn apply(&self, prepared: &Prepared, plan: &QuantPlan) -> Result<QuantPlan, Error> {
        let names = prepared.value_names();
        let mut wrong = Vec::new();
        let mut edited = plan.clone();
        let known_names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for (name, precision) in &self.precisions {
            // The vendor's converter appends to names, and has another word for half precision.
            let value = original(name, &known_names).map_or(name.as_str(), |(value, _)| value);
            let precision = if precision == "float16" {
                "fp16"
            } else {
                precision.as_str()
            };
            let Some(known) = plan.value(value) else {
                let help = suggestion(value, names.iter().map(String::as_str));
                wrong.push(format!("the model has no value \"{value}\"{help}"));
                continue;
            };
            if REAL.contains(&precision) {
                let is_so = match &known.precision {
                    crate::plan::Precision::Fp16 { .. } => precision == "fp16",
                    crate::plan::Precision::Float { .. } => precision == "float",
                    _ => false,
                };
                if !is_so {
                    edited.set_real(value, precision, "hybrid");
                }
                continue;
            }
            let own = precision_word(known, plan.forms().get(value));
            let own = Some(own).filter(|own| !REAL.contains(own));
            if own != Some(precision) {
                let own = own.map_or_else(String::new, |own| format!(", or {own} as in the plan"));
                wrong.push(format!(
                    "value \"{value}\": precision cannot be set, expected fp16 or float{own}, got \"{precision}\""
                ));
            }
        }
        if wrong.is_empty() {
            return Ok(edited);
        }
        Err(Error::Plan {
            file: self.file.clone(),
            what: wrong.join("\n  "),
        })
    }
}

//! A plan written for another tool. A new format is a file and two lines here.

mod float;
mod python;
mod qdq;
mod rknn;
mod rknn_script;

use std::path::{Path, PathBuf};

use qloupe_ir::Model;
use serde_json::Value;

use crate::Error;
use crate::mixed_fp16::convert_by_plan;
use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use crate::qdq::export_qdq;
use crate::session::Session;

/// A format that a plan can be written in.
pub trait ExportFormat: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// The options that it needs; others are refused.
    fn needs(&self) -> &'static [ExportOption];
    /// Where it writes when nothing is said.
    fn default_output(&self, request: &Request<'_>) -> PathBuf;
    /// Writes; files are whole or not there at all.
    ///
    /// # Errors
    /// Inputs that cannot be read or do not fit, outputs that cannot be written.
    fn export(&self, request: &Request<'_>, output: &Path) -> Result<Exported, Error>;
}

/// An input of some formats, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOption {
    /// `--cfg`: the vendor's file that ranges are written into.
    Cfg,
    /// `--dataset`: samples for the vendor's tool.
    Dataset,
}

impl ExportOption {
    /// The option as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cfg => "--cfg",
            Self::Dataset => "--dataset",
        }
    }
}

/// Every format, by id.
pub const ALL: &[&dyn ExportFormat] = &[&float::Float, &qdq::Qdq, &rknn::Rknn, &rknn_script::RknnScript];

/// The format of an id.
///
/// # Errors
/// [`Error::UnknownChoice`] with all ids.
pub fn find(id: &str) -> Result<&'static dyn ExportFormat, Error> {
    let found = ALL.iter().copied().find(|format| format.id() == id);
    found.ok_or_else(|| Error::unknown_choice("format", id, ALL.iter().map(|format| format.id())))
}

/// The model of a plan: QDQ, or float16 where the target keeps every value so. `file` is for messages.
///
/// # Errors
/// What the form has no place for.
pub fn model_of_plan(file: &str, prepared: &Prepared, plan: &QuantPlan) -> Result<Model, Error> {
    if prepared.target.keeps_values_float() {
        convert_by_plan(file, prepared, plan)
    } else {
        export_qdq(prepared, plan)
    }
}

/// What is exported.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The model file.
    pub model: &'a Path,
    /// The plan file.
    pub plan_path: &'a Path,
    /// The model with its inputs.
    pub session: &'a Session,
    /// The graph that the plan is about.
    pub prepared: &'a Prepared,
    /// The plan.
    pub plan: &'a QuantPlan,
    /// [`ExportOption::Cfg`].
    pub cfg: Option<&'a Path>,
    /// [`ExportOption::Dataset`].
    pub dataset: Option<&'a Path>,
    /// The values that the user cut the model at, where it did.
    pub crop: &'a crate::prepare::Crop,
}

impl Request<'_> {
    /// Checks that the options are those that a format needs.
    ///
    /// # Errors
    /// [`Error::Options`] with the options.
    pub fn check(&self, format: &dyn ExportFormat) -> Result<(), Error> {
        let given = [
            (ExportOption::Cfg, self.cfg),
            (ExportOption::Dataset, self.dataset),
        ];
        for (option, value) in given {
            let needed = format.needs().contains(&option);
            if needed != value.is_some() {
                let (verb, got) = if needed {
                    ("needs", "none")
                } else {
                    ("takes no", "one")
                };
                let name = option.name();
                return Err(Error::Options(format!(
                    "--to {} {verb} {name}, expected {}, got {got}",
                    format.id(),
                    if needed {
                        format!("{name} FILE")
                    } else {
                        "none".to_owned()
                    }
                )));
            }
        }
        Ok(())
    }

    /// Checks that the plan is for a device of Rockchip's.
    fn require_rockchip(&self) -> Result<(), Error> {
        let optimized = &self.plan.optimized;
        let scaled = optimized.scalings.iter().map(|scaling| (&scaling.pass, "scaled"));
        let shifted = optimized.shifts.iter().map(|shift| (&shift.pass, "shifted"));
        if let Some((pass, done)) = scaled.chain(shifted).next() {
            return Err(Error::Options(format!(
                "{}: {} {done} values of the plan channel by channel, and the vendor's tool reads the model as it is, expected a \
                 plan of `build --optimization-level 1`",
                self.plan_path.display(),
                pass
            )));
        }
        if self.prepared.target.quantizes_weights_only() {
            return Err(Error::Options(format!(
                "{}: target {} has integer weights only, whose scales the vendor's tool finds itself and takes from nobody, expected \
                 a plan for rk3588 or one of its relatives",
                self.plan_path.display(),
                self.plan.target
            )));
        }
        if self.plan.target.starts_with("rk") || self.plan.target.starts_with("rv") {
            return Ok(());
        }
        Err(Error::Options(format!(
            "{}: the plan is for another kind of target, expected rk3588 or one of its relatives, got {}",
            self.plan_path.display(),
            self.plan.target
        )))
    }
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// The files, the first the most important.
    pub files: Vec<PathBuf>,
    /// What the user should know, in lines.
    pub lines: Vec<String>,
    /// The same as fields of an object.
    pub fields: Vec<(&'static str, Value)>,
}

impl Exported {
    /// As a JSON object.
    pub fn to_json(&self, format: &dyn ExportFormat) -> Value {
        let files = self
            .files
            .iter()
            .map(|file| Value::from(file.display().to_string()));
        let head = [("format", Value::from(format.id())), ("files", files.collect())];
        let fields = head.into_iter().chain(self.fields.iter().cloned());
        Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_unique() {
        assert!(
            ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()),
            "the list is sorted by id"
        );
        let error = find("rknm").err().map(|error| error.to_string());
        let text =
            "unknown format \"rknm\", did you mean \"rknn\"? expected one of float, qdq, rknn, rknn-script";
        assert_eq!(error.as_deref(), Some(text));
    }
}

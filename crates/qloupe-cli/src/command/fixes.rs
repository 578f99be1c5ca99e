//! `analyze --fix` and `--apply`: the fixes of findings, tried and written.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use qloupe::Mode;
use qloupe::exam::Exam;
use qloupe::fix::Fixer;
use qloupe::plan::{constants_path, write_plan};
use qloupe::quantize::{QuantizeOptions, Quantized, Stages};
use qloupe::report::Report;
use qloupe::samples::Dataset;
use qloupe::session::Session;

use crate::args::ModelArgs;
use crate::progress;

/// What to do about findings.
#[derive(Args, Debug)]
pub(super) struct FixArgs {
    /// Try the fixes of the first N findings, each by itself, and say what each brings
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5")]
    pub(super) fix: Option<usize>,
    /// Write the plan with these fixes, by their numbers: 1 or 1,3 (tries them first)
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub(super) apply: Vec<usize>,
    /// The plan to write [default: MODEL.fixed.plan.toml]
    #[arg(long, value_name = "FILE")]
    pub(super) fixed_plan: Option<PathBuf>,
}

impl FixArgs {
    /// True where fixes are to be tried.
    pub(super) fn is_wanted(&self) -> bool {
        self.fix.is_some() || !self.apply.is_empty()
    }

    /// Where the plan goes.
    pub(super) fn path(&self, model: &ModelArgs) -> PathBuf {
        let default = || model.beside("fixed.plan.toml");
        self.fixed_plan.clone().unwrap_or_else(default)
    }

    /// Checks before the work that the plan can be written.
    pub(super) fn check(&self, model: &ModelArgs) -> anyhow::Result<()> {
        if self.fixed_plan.is_some() && self.apply.is_empty() {
            bail!("--fixed-plan says where a plan goes, expected --apply N beside it");
        }
        if self.apply.contains(&0) {
            bail!("--apply: fixes are numbered from 1, got 0");
        }
        if !self.apply.is_empty() {
            let path = self.path(model);
            model.check_output(&path)?;
            model.check_output(&constants_path(&path))?;
        }
        Ok(())
    }

    /// Tries fixes, notes in the report what they bring, and writes the plan that is asked for.
    pub(super) fn run(
        &self,
        (session, quantized, mode): (&Session, &Quantized, Mode),
        dataset: &Dataset,
        calibration: Option<(&Dataset, QuantizeOptions)>,
        model: &ModelArgs,
        report: &mut Report,
        stages: Stages<'_>,
    ) -> anyhow::Result<()> {
        let exam = Exam::of_dataset(&session.network, dataset, mode)?;
        let mut fixer = Fixer::new(session, quantized, exam);
        if let Some((dataset, options)) = calibration {
            fixer = fixer.with_calibration(dataset, options);
        }
        let n_tried = self
            .fix
            .unwrap_or(0)
            .max(self.apply.iter().copied().max().unwrap_or(0));
        fixer.try_all(&mut report.findings, n_tried, stages)?;
        if self.apply.is_empty() {
            return Ok(());
        }
        let fixed = fixer.apply_numbered(&report.findings, &self.apply)?;
        let path = self.path(model);
        write_plan(&path, &fixed.plan)?;
        progress::message(&format!("wrote {}", path.display()));
        Ok(())
    }
}

//! What makes a plan better: fixes that findings propose, and units in higher precision.

use std::path::PathBuf;

use qloupe::exam::Exam;
use qloupe::fix::Fixer;
use qloupe::hybrid::{Goal, HybridFile, ProposeOptions, propose_on};
use qloupe::quantize::{QuantizeOptions, Stages};
use qloupe::report::Report;
use qloupe::samples::Dataset;
use qloupe::{Error, Mode, quantize};

use super::Quantized;
use super::analysis::Task;
use crate::evaluate::mode_of;
use crate::proposal::Proposal;
use crate::samples::Samples;

/// The goal that is given; there has to be one.
pub(super) fn goal_of(
    min_sqnr_db: Option<f64>,
    min_cosine: Option<f64>,
    max_drop: Option<f64>,
) -> Result<Goal, Error> {
    let goals = [
        min_sqnr_db.map(Goal::MinSqnrDb),
        min_cosine.map(Goal::MinCosine),
        max_drop.map(Goal::MaxDrop),
    ];
    let given: Vec<Goal> = goals.into_iter().flatten().collect();
    let [goal] = given[..] else {
        let n = given.len();
        let what = format!("the goal: expected one of min_sqnr_db, min_cosine and max_drop, got {n}");
        return Err(Error::Options(what));
    };
    let (Goal::MinSqnrDb(number) | Goal::MinCosine(number) | Goal::MaxDrop(number)) = goal;
    if !number.is_finite() {
        return Err(Error::Options(format!(
            "the goal: expected a number, got {number}"
        )));
    }
    Ok(goal)
}

/// What fixes are judged on, and what they may quantize again on.
#[derive(Clone, Copy)]
pub(super) struct FixSamples<'a> {
    exam: &'a Dataset,
    calibration: Option<&'a Dataset>,
    mode: Mode,
}

impl<'a> FixSamples<'a> {
    /// # Errors
    /// A mode that does not exist.
    pub(super) fn new(
        exam: &'a Samples,
        calibration: Option<&'a Samples>,
        mode: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            exam: &exam.dataset,
            calibration: calibration.map(|samples| &*samples.dataset),
            mode: mode_of(mode)?,
        })
    }
}

impl Quantized {
    /// The plan with a graph of its own, as the facade takes it.
    pub(super) fn made(&self) -> Result<quantize::Quantized, Error> {
        let prepared = self.prepared.copied(&self.session.network)?;
        let mut made = quantize::Quantized::new(prepared, self.plan.clone());
        made.notes.clone_from(&self.notes);
        Ok(made)
    }

    /// As [`Quantized::made`]; a model that another tool quantized has no plan to edit.
    fn editable(&self) -> Result<quantize::Quantized, Error> {
        if self.stored.is_some() {
            let file = self.origin.path.display();
            let what = format!("{file}: another tool quantized it, expected a plan of Model.build() to edit");
            return Err(Error::Options(what));
        }
        self.made()
    }

    /// Tries the fixes of the first `n` findings of a report that have one, and notes what each brings.
    pub(super) fn tried(
        &self,
        by: FixSamples<'_>,
        report: &Report,
        n: usize,
        stages: Stages<'_>,
    ) -> Result<Report, Error> {
        let made = self.editable()?;
        let mut report = report.clone();
        self.fixer(&made, by)?.try_all(&mut report.findings, n, stages)?;
        Ok(report)
    }

    /// The plan after fixes of a report in which they were tried.
    pub(super) fn fixed(
        &self,
        by: FixSamples<'_>,
        report: &Report,
        numbers: &[usize],
    ) -> Result<Self, Error> {
        let made = self.editable()?;
        let mut fixed = self.fixer(&made, by)?.apply_numbered(&report.findings, numbers)?;
        fixed.notes.clone_from(&self.notes);
        Ok(Self::new(self.origin.clone(), self.session.clone(), fixed))
    }

    fn fixer<'a>(&'a self, made: &'a quantize::Quantized, by: FixSamples<'a>) -> Result<Fixer<'a>, Error> {
        let exam = Exam::of_dataset(&self.session.network, by.exam, by.mode)?;
        let fixer = Fixer::new(&self.session, made, exam);
        Ok(match by.calibration {
            Some(calibration) => {
                let options = QuantizeOptions {
                    method: self.plan.method,
                    ..QuantizeOptions::new(self.prepared.target)
                };
                fixer.with_calibration(calibration, options)
            }
            None => fixer,
        })
    }

    /// The least set of units in higher precision that reaches a goal.
    pub(super) fn proposed(
        &self,
        dataset: &Dataset,
        labels: Option<PathBuf>,
        goal: Goal,
        options: ProposeOptions,
        stages: Stages<'_>,
    ) -> Result<Proposal, Error> {
        let made = self.editable()?;
        let task = match &labels {
            Some(labels) => Some(Task::choose(&self.session, labels, dataset)?),
            None => None,
        };
        let task = task.as_ref().map(|task| (&task.labelled, &task.question));
        let proposal = propose_on((&self.session, &made), dataset, task, goal, options, stages)?;
        Ok(Proposal {
            base: self.plan.clone(),
            raised: self.under(proposal.plan.clone())?,
            proposal,
        })
    }

    /// The plan with the precisions of a file of a proposal.
    pub(crate) fn with_hybrid_file(&self, file: &HybridFile) -> Result<Self, Error> {
        let plan = file.apply(&self.prepared, &self.plan)?;
        let name = &self.session.network.file;
        self.prepared.check_plan(name, &plan)?;
        self.under(plan)
    }
}

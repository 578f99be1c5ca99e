//! What `analyze --labels` adds to a report: how often the answers are right, in float and under the plan.

use qloupe::evaluate::{Choice, Question, measure_accuracy};
use qloupe::quantize::Quantized;
use qloupe::report::Accuracy;
use qloupe::samples::Labelled;
use qloupe::session::Session;
use qloupe::{Error, Mode};

use super::analyze::Arguments;
use crate::progress;

/// Labelled samples, and what is asked about them.
pub(super) struct Task {
    labels: String,
    labelled: Labelled,
    question: Question,
}

impl Task {
    /// The task of `--labels`; `None` without. Labels that fit no output are refused before the long work.
    pub(super) fn choose(args: &Arguments, session: &Session) -> anyhow::Result<Option<Self>> {
        let Some(path) = &args.labels else { return Ok(None) };
        let labelled = Labelled::open(path, &args.input, &session.inputs).map_err(Error::from)?;
        let question = Question::choose(&session.network, &labelled, Choice::default())?;
        Ok(Some(Self {
            labels: path.display().to_string(),
            labelled,
            question,
        }))
    }

    /// Runs every sample in float and under the plan.
    pub(super) fn accuracy(
        &self,
        args: &Arguments,
        session: &Session,
        quantized: &Quantized,
        mode: Mode,
    ) -> anyhow::Result<Accuracy> {
        let n_runs = 2 * self.labelled.dataset.len();
        let bar = progress::bar("evaluate", n_runs, args.model.quiet);
        let done = |done, _| bar.set_position(done as u64);
        let accuracy = measure_accuracy(
            (session, quantized, mode),
            (&self.labelled, &self.question),
            self.labels.clone(),
            &done,
        )?;
        bar.finish_and_clear();
        Ok(accuracy)
    }
}

//! Task accuracy: how often a network is right, in float and in the precisions it is converted to, on the same samples.
//!
//! The precisions run on each sample side by side; only counts are kept.

mod class_names;
mod gate;
mod interval;
mod question;
mod summary;
mod table;
pub mod tasks;

use std::time::Instant;

use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::calibrate::Progress;
use crate::prepare::Network;
use crate::runner::Runner;
use crate::samples::{Batch, Labelled};

pub use class_names::read_class_names;
pub use gate::{Gate, GateOutcome};
pub use interval::Hits;
pub use question::{Choice, Question};
pub use summary::measure_accuracy;

/// The precisions that can be evaluated, in the order they are shown.
/// `w4a16` or `w8a16` takes the place of the last for targets with integer weights and float16 values.
pub const PRECISIONS: [&str; 3] = ["float", "fp16", "int8"];

/// Batches that each thread reads ahead.
const N_AHEAD: usize = 4;

/// A precision and what runs in it.
#[derive(Debug)]
pub struct Contender {
    /// One of [`PRECISIONS`], or what takes its place.
    pub precision: &'static str,
    /// What runs.
    pub runner: Runner,
}

/// How well one precision did.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// One of [`PRECISIONS`], or what takes its place.
    pub precision: &'static str,
    /// Right answers, for each metric of the task.
    pub metrics: Vec<(&'static str, Hits)>,
    /// Answers that are those of float; `None` for float itself and where float does not run.
    pub agreement: Option<Hits>,
    /// Samples whose output holds NaN.
    pub n_nan: usize,
    /// Wall time of all runs, without reading the samples. Several samples run at once.
    pub seconds: f64,
}

/// Everything that was asked and found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The model file.
    pub model: String,
    /// The id of the task.
    pub task: &'static str,
    /// The output that was read.
    pub output: String,
    /// What the output was taken for: `10 classes`.
    pub about: String,
    /// Where the labels come from.
    pub labels: String,
    /// The number of samples.
    pub n_samples: usize,
    /// How the int8 network came to be, in words; `None` without one.
    pub int8: Option<String>,
    /// One for each precision.
    pub scores: Vec<Score>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Runs all samples in every precision and counts the right answers.
///
/// # Errors
/// A sample that cannot be read, a run that fails, an output that is not like that of the first sample.
pub fn evaluate(
    network: &Network,
    labelled: &Labelled,
    question: &Question,
    contenders: &[Contender],
    progress: Progress<'_>,
) -> Result<Vec<Score>, Error> {
    let dataset = &labelled.dataset;
    let (n_batches, n_samples) = (dataset.n_batches(), dataset.len());
    let has_float = contenders.iter().any(|c| matches!(c.runner, Runner::Float));
    let metrics = question.judge.metrics();
    let new = |contender: &Contender| Score {
        precision: contender.precision,
        metrics: metrics.iter().map(|&id| (id, Hits::default())).collect(),
        agreement: (has_float && !matches!(contender.runner, Runner::Float)).then(Hits::default),
        n_nan: 0,
        seconds: 0.0,
    };
    let mut scores: Vec<Score> = contenders.iter().map(new).collect();
    let n_ahead = N_AHEAD * rayon::current_num_threads();
    let mut n_done = 0;
    for start in (0..n_batches).step_by(n_ahead) {
        let end = usize::min(start + n_ahead, n_batches);
        let read = |idx| Ok(dataset.batch(idx)?);
        let batches: Vec<Batch> = all((start..end).into_par_iter().map(read))?;
        let mut reference: Option<Vec<Vec<Tensor>>> = None;
        for (contender, score) in contenders.iter().zip(&mut scores) {
            let began = Instant::now();
            let run = |batch: &Batch| question.outputs(network, &contender.runner, batch);
            let outputs: Vec<Vec<Tensor>> = all(batches.par_iter().map(run))?;
            score.seconds += began.elapsed().as_secs_f64();
            for (batch_idx, outputs) in outputs.iter().enumerate() {
                let first = batches[batch_idx].first;
                for (offset, output) in outputs.iter().enumerate() {
                    let reference = reference.as_ref().map(|all| &all[batch_idx][offset]);
                    score.add(question, first + offset, output, reference)?;
                }
                n_done += outputs.len();
            }
            if matches!(contender.runner, Runner::Float) {
                reference = Some(outputs);
            }
        }
        progress(n_done, n_samples * contenders.len());
    }
    Ok(scores)
}

/// All results, or the first error in their order.
fn all<T: Send>(results: impl IndexedParallelIterator<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
    results.collect::<Vec<_>>().into_iter().collect()
}

impl Score {
    fn add(
        &mut self,
        question: &Question,
        sample: usize,
        output: &Tensor,
        reference: Option<&Tensor>,
    ) -> Result<(), Error> {
        let wrong = |what| Error::Options(format!("sample {sample}, output \"{}\": {what}", question.output));
        let hits = question.judge.score(sample, output).map_err(wrong)?;
        for ((_, sum), hits) in self.metrics.iter_mut().zip(hits) {
            sum.add(hits);
        }
        if let (Some(sum), Some(reference)) = (&mut self.agreement, reference) {
            sum.add(question.judge.agreement(reference, output).map_err(wrong)?);
        }
        let has_nan = output.to_f64_vec()?.iter().any(|value| value.is_nan());
        self.n_nan += usize::from(has_nan);
        Ok(())
    }

    /// The share of a metric, or `agreement`.
    pub fn figure(&self, id: &str) -> Option<f64> {
        if id == "agreement" {
            return self.agreement.map(Hits::share);
        }
        let found = self.metrics.iter().find(|(known, _)| *known == id);
        found.map(|(_, hits)| hits.share())
    }
}

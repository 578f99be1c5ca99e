//! The analysis of a model under a plan, sample by sample.

use std::path::{Path, PathBuf};
use std::time::Instant;

use qloupe::analyze::{
    Analysis, AnalyzeOptions, CostOptions, N_EFFECT_SAMPLES, Tap, ViewSet, add_origin, analyze, measure_costs,
};
use qloupe::evaluate::{Choice, Question, measure_accuracy};
use qloupe::outputs::DumpWriter;
use qloupe::quantize::Stages;
use qloupe::report::Report;
use qloupe::samples::{Batch, Dataset, Labelled};
use qloupe::sensitivity::Depth;
use qloupe::session::Session;
use qloupe::{Error, Mode};
use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

use super::Quantized;
use crate::evaluate::mode_of;

/// Timed runs of each precision in the closing table.
const N_COST_RUNS: usize = 3;

/// What an analysis is asked for, besides its options.
pub(super) struct Request {
    options: AnalyzeOptions,
    dump: Option<PathBuf>,
    costs: bool,
    labels: Option<PathBuf>,
}

impl Request {
    /// Checks what is asked before the work.
    pub(super) fn new(
        options: AnalyzeOptions,
        dump: Option<PathBuf>,
        costs: bool,
        labels: Option<PathBuf>,
    ) -> Result<Self, Error> {
        if let Some(folder) = &dump {
            DumpWriter::check(folder)?;
        }
        Ok(Self {
            options,
            dump,
            costs,
            labels,
        })
    }
}

/// The options of an analysis by their names.
pub(super) fn options_of(
    views: &[String],
    mode: &str,
    depth: &str,
    n_effect_samples: Option<usize>,
    until_stable: bool,
) -> Result<AnalyzeOptions, Error> {
    Ok(AnalyzeOptions {
        mode: mode_of(mode)?,
        views: ViewSet::parse(views.iter().map(String::as_str))?,
        n_effect_samples: n_effect_samples_of(n_effect_samples)?,
        depth: Depth::parse(depth)?,
        until_stable,
    })
}

/// Samples that `alone` and `rescued` are measured on.
pub(super) fn n_effect_samples_of(given: Option<usize>) -> Result<usize, Error> {
    match given {
        Some(0) => {
            let what = "n_effect_samples: expected at least 1 sample, got 0";
            Err(Error::Options(what.to_owned()))
        }
        given => Ok(given.unwrap_or(N_EFFECT_SAMPLES)),
    }
}

/// Compares all samples.
pub(super) fn analyze_samples(
    quantized: &Quantized,
    dataset: &Dataset,
    source: &str,
    request: Request,
    stages: Stages<'_>,
) -> Result<Report, Error> {
    let start = Instant::now();
    let Quantized {
        session,
        prepared,
        plan,
        ..
    } = quantized;
    let network = &session.network;
    let task = match &request.labels {
        Some(labels) => Some(Task::choose(session, labels, dataset)?),
        None => None,
    };
    let mut dump = request.dump.as_deref().map(DumpWriter::create).transpose()?;
    let tap = dump.as_mut().map(|dump| dump as &mut dyn Tap);
    let subject = (network, &**prepared, plan);
    let mut report = analyze(subject, dataset, &request.options, stages, tap)?;
    if let Some(dump) = dump {
        dump.finish()?;
    }
    let first = dataset.batch(0)?;
    if request.costs {
        let options = CostOptions { n_runs: N_COST_RUNS };
        report.costs = measure_costs(network, prepared, plan, &first.inputs, options)?;
    }
    if let Some(stored) = &quantized.stored {
        stored.add_to(&mut report, quantized, &first.inputs);
    }
    if let Some((labels, task)) = request.labels.zip(task) {
        let subject = (&**session, &quantized.made()?, request.options.mode);
        let asked = (&task.labelled, &task.question);
        let done = |done, all| stages("evaluate", done, all);
        report.accuracy = Some(measure_accuracy(
            subject,
            asked,
            labels.display().to_string(),
            &done,
        )?);
    }
    add_origin(&mut report, (prepared, plan), dataset, source.to_owned());
    report.timing.total_seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Samples with their right answers, and what is asked about them.
pub(super) struct Task {
    pub(super) labelled: Labelled,
    pub(super) question: Question,
}

impl Task {
    /// The task that labels are for. Labels that fit no output are refused before the long work.
    pub(super) fn choose(session: &Session, labels: &Path, dataset: &Dataset) -> Result<Self, Error> {
        let labelled = Labelled::of_dataset(labels, dataset, &session.inputs)?;
        let question = Question::choose(&session.network, &labelled, Choice::default())?;
        Ok(Self { labelled, question })
    }
}

/// Name, golden value and value under test.
type Pair = (String, Tensor, Tensor);

struct Wanted<'a> {
    names: &'a [String],
    found: Vec<Pair>,
    seen: Vec<String>,
}

impl Tap for Wanted<'_> {
    fn begin_sample(&mut self, _: usize) {}

    fn value(&mut self, name: &str, golden: &Tensor, test: &Tensor) -> Result<(), Error> {
        self.seen.push(name.to_owned());
        if self.names.iter().any(|wanted| wanted == name) {
            self.found.push((name.to_owned(), golden.clone(), test.clone()));
        }
        Ok(())
    }
}

/// The values of some layers on one batch.
pub(super) fn values_of(
    quantized: &Quantized,
    batch: &Batch,
    names: &[String],
    mode: Mode,
) -> Result<Vec<Pair>, Error> {
    let Quantized {
        session,
        prepared,
        plan,
        ..
    } = quantized;
    let views = ViewSet::parse(["entire"])?;
    let mut analysis = Analysis::new(&session.network, prepared, plan, mode, views)?;
    let mut wanted = Wanted {
        names,
        found: Vec::new(),
        seen: Vec::new(),
    };
    analysis.observe(batch, Some(&mut wanted))?;
    match names.iter().find(|name| !wanted.seen.contains(name)) {
        None => Ok(wanted.found),
        Some(name) => {
            let help = suggestion(name, wanted.seen.iter().map(String::as_str));
            Err(Error::Options(format!("layer \"{name}\" has no values{help}")))
        }
    }
}

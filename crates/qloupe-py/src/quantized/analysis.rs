//! The analysis of a model under a plan, sample by sample.

use std::path::PathBuf;
use std::time::Instant;

use qloupe::analyze::{
    Analysis, AnalyzeOptions, CostOptions, N_EFFECT_SAMPLES, Tap, ViewSet, analyze, measure_costs,
};
use qloupe::mixed_fp16::proof_of;
use qloupe::outputs::DumpWriter;
use qloupe::quantize::Stages;
use qloupe::report::Report;
use qloupe::samples::{Batch, Dataset};
use qloupe::sensitivity::Depth;
use qloupe::{Error, Mode};
use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

use super::Quantized;
use crate::evaluate::mode_of;

/// Timed runs of each precision in the closing table.
const N_COST_RUNS: usize = 3;

/// What an analysis is asked for.
pub(super) struct Request {
    views: ViewSet,
    mode: Mode,
    dump: Option<PathBuf>,
    costs: bool,
}

impl Request {
    /// Checks what is asked before the work.
    pub(super) fn new(
        views: Vec<String>,
        mode: &str,
        dump: Option<PathBuf>,
        costs: bool,
    ) -> Result<Self, Error> {
        if let Some(folder) = &dump {
            DumpWriter::check(folder)?;
        }
        Ok(Self {
            views: ViewSet::parse(views.iter().map(String::as_str))?,
            mode: mode_of(mode)?,
            dump,
            costs,
        })
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
    let mut dump = request.dump.as_deref().map(DumpWriter::create).transpose()?;
    let options = AnalyzeOptions {
        mode: request.mode,
        views: request.views,
        n_effect_samples: N_EFFECT_SAMPLES,
        depth: Depth::default(),
        until_stable: false,
    };
    let tap = dump.as_mut().map(|dump| dump as &mut dyn Tap);
    let mut report = analyze((network, prepared, plan), dataset, &options, stages, tap)?;
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
    report.samples.source = source.to_owned();
    if prepared.target.activation.is_none() {
        report.notes.extend(proof_of(plan));
    }
    report.notes.extend(dataset.notes().iter().cloned());
    report.timing.total_seconds = start.elapsed().as_secs_f64();
    Ok(report)
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

//! A whole analysis: every sample compared value by value, then what each unit does to the outputs, and what is wrong.

use qloupe_exec::Mode;

use super::{Analysis, Stability, Tap, ViewSet};
use crate::Error;
use crate::findings::{self, Case};
use crate::mixed_fp16::proof_of;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::quantize::Stages;
use crate::report::Report;
use crate::samples::Dataset;
use crate::sensitivity::{Depth, Sensitivity};

/// Samples that `alone` and `rescued` are measured on where nothing is said: they tell units apart that matter.
pub const N_EFFECT_SAMPLES: usize = 4;

/// What is computed.
#[derive(Clone, Copy, Debug)]
pub struct AnalyzeOptions {
    /// How quantized units compute.
    pub mode: Mode,
    /// Which views.
    pub views: ViewSet,
    /// Samples that `alone` and `rescued` are measured on, at most: evenly spread over all.
    pub n_effect_samples: usize,
    /// How many units are run again for them.
    pub depth: Depth,
    /// No more samples are read once the worst layers keep their order.
    pub until_stable: bool,
}

/// Compares a quantized network with the float network on samples.
///
/// # Errors
/// A sample that cannot be read, a run that fails, what keeps `tap` from storing a value.
pub fn analyze(
    (network, prepared, plan): (&Network, &Prepared, &QuantPlan),
    dataset: &Dataset,
    options: &AnalyzeOptions,
    stages: Stages<'_>,
    mut tap: Option<&mut (dyn Tap + '_)>,
) -> Result<Report, Error> {
    let mut analysis = Analysis::new(network, prepared, plan, options.mode, options.views)?;
    let n_batches = dataset.n_batches();
    let mut stability = options.until_stable.then(Stability::default);
    let mut after = |analysis: &Analysis<'_>, idx| {
        stages("analyze", idx + 1, n_batches);
        !stability.as_mut().is_some_and(|stability| {
            stability.observe(analysis);
            stability.is_stable()
        })
    };
    match &mut tap {
        None => analysis.observe_all(n_batches, |idx| Ok(dataset.batch(idx)?), after)?,
        // Its owner sees values sample by sample.
        Some(tap) => {
            for idx in 0..n_batches {
                let batch = dataset.batch(idx)?;
                tap.begin_sample(idx);
                analysis.observe(&batch, Some(&mut **tap as &mut dyn Tap))?;
                if !after(&analysis, idx) {
                    break;
                }
            }
        }
    }
    let mut report = analysis.finish();
    report
        .notes
        .extend(stability.map(|stability| stability.note(dataset.len())));
    if options.views.effects {
        let n = n_batches.min(options.n_effect_samples);
        let samples = (0..n).map(|i| Ok(dataset.batch(i * n_batches / n)?.inputs));
        let samples: Vec<_> = samples.collect::<Result<_, Error>>()?;
        let mut sensitivity = Sensitivity::new(network, prepared, plan)?;
        sensitivity.observe(&samples, options.depth, stages)?;
        sensitivity.finish(&mut report);
        report.findings = findings::find(&Case::new(&report, prepared, plan));
    }
    Ok(report)
}

/// Adds to a report where its samples come from, the files of the worst ones, and what the user should know of samples and plan.
pub fn add_origin(
    report: &mut Report,
    (prepared, plan): (&Prepared, &QuantPlan),
    dataset: &Dataset,
    source: String,
) {
    let outputs = report.outputs.iter_mut();
    for sample in outputs.flat_map(|output| &mut output.worst_samples) {
        sample.file = dataset.file(sample.index).map(|file| file.display().to_string());
    }
    report.samples.source = source;
    if prepared.target.is_fp16() {
        report.notes.extend(proof_of(plan));
    }
    report.notes.extend(dataset.notes().iter().cloned());
}

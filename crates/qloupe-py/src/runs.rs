//! Runs from arrays or samples to arrays, and how long they take: of the float model or of one under a plan.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use qloupe::Mode;
use qloupe::bench::{Bench, BenchOptions, Subject, make_one_sample, measure};
use qloupe::outputs::Collected;
use qloupe::plan::QuantPlan;
use qloupe::prepare::Prepared;
use qloupe::runner::{Named, Runner};
use qloupe::samples::Batch;
use qloupe::session::Session;
use qloupe_tensor::Tensor;

use crate::model::Printed;
use crate::samples::Samples;
use crate::tensor::{from_arrays, to_arrays};
use crate::work;

/// One run on arrays.
pub(crate) fn run_arrays<'py>(
    py: Python<'py>,
    session: &Session,
    runner: &Runner,
    arrays: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut inputs = from_arrays(arrays)?;
    let fed = session
        .inputs
        .iter()
        .filter_map(|spec| Some((spec.name.clone(), spec.constant.clone()?)));
    let fed: Vec<_> = fed
        .filter(|(name, _)| inputs.iter().all(|(given, _)| given != name))
        .collect();
    inputs.extend(fed);
    let outputs = work::run(py, None, |_| runner.run(&session.network, &inputs, None))?;
    to_arrays(py, outputs)
}

/// Runs on all samples; the outputs joined along their first axis.
pub(crate) fn run_samples<'py>(
    py: Python<'py>,
    session: &Session,
    runner: &Runner,
    samples: &Samples,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let dataset = Arc::clone(&samples.dataset);
    let joined = work::run(py, progress, |stages| {
        let mut collected = Collected::default();
        for idx in 0..dataset.n_batches() {
            let batch = dataset.batch(idx)?;
            let outputs = runner.run(&session.network, &batch.inputs, None)?;
            split(&batch, outputs)
                .into_iter()
                .for_each(|sample| collected.add(sample));
            stages("infer", idx + 1, dataset.n_batches());
        }
        collected.join()
    })?;
    to_arrays(py, joined)
}

/// The outputs of each sample of a batch; those of a whole batch where an output does not tell its samples apart.
fn split(batch: &Batch, outputs: Named) -> Vec<Named> {
    let parts: Vec<Vec<Tensor>> = outputs.iter().map(|(_, tensor)| batch.split(tensor)).collect();
    if parts.iter().any(|parts| parts.len() != batch.n_samples) {
        return vec![outputs];
    }
    let of = |sample: usize| {
        let outputs = outputs.iter().zip(&parts);
        outputs
            .map(|((name, _), parts)| (name.clone(), parts[sample].clone()))
            .collect()
    };
    (0..batch.n_samples).map(of).collect()
}

/// Latency and memory, of the float model or of one under a plan: what runs, with the name of its mode, and how often.
pub(crate) fn measured(
    py: Python<'_>,
    (session, under_plan, mode): (&Session, Option<(&Prepared, &QuantPlan, Mode)>, &str),
    (n_runs, n_warmup, profile): (usize, usize, bool),
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Printed> {
    let options = BenchOptions {
        n_warmup,
        n_runs: n_runs.max(1),
        observe: false,
        profile,
        units: false,
    };
    let network = &session.network;
    work::run(py, progress, |stages| {
        let inputs = make_one_sample(session)?;
        let program = match under_plan {
            Some((prepared, plan, mode)) => Some((prepared, prepared.quantized(network, plan, mode)?)),
            None => None,
        };
        let subject = match &program {
            Some((prepared, program)) => Subject::Quantized {
                network,
                prepared,
                program,
            },
            None => Subject::Float(network),
        };
        let measurement = measure(subject, &inputs, options, &mut |done, all| {
            stages("bench", done, all)
        })?;
        let bench = Bench {
            model: network.file.clone(),
            mode: mode.to_owned(),
            isa: qloupe_kernels::isa().name().to_owned(),
            n_threads: rayon::current_num_threads(),
            n_runs: options.n_runs,
            inputs: Bench::describe(&inputs),
            measurement,
        };
        Ok((bench.to_json().to_string(), bench.to_text()))
    })
}

//! A model under a plan: run, analyzed, edited, written.

mod analysis;
mod improve;
mod stored;
mod values;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use qloupe::export::model_of_plan;
use qloupe::hybrid::{ProposeOptions, read_hybrid};
use qloupe::mixed_fp16::proof_of;
use qloupe::plan::{QuantPlan, constants_path, format_plan, write_plan};
use qloupe::prepare::Prepared;
use qloupe::quantize;
use qloupe::ranges::{known_values, read_ranges};
use qloupe::runner::Runner;
use qloupe::session::Session;
use qloupe::write::check_writable;
use qloupe::{Error, Mode, export, write_model};
use qloupe_tensor::Range;

use crate::error::{to_python, wrong_options};
use crate::evaluate::mode_of;
use crate::model::{Origin, Printed};
use crate::proposal::Proposal;
use crate::report::Report;
use crate::runs::{measured, run_arrays, run_samples};
use crate::samples::Samples;
use crate::tensor::to_arrays;
use crate::work;

use analysis::{Request, analyze_samples, n_effect_samples_of, options_of, values_of};
use improve::{FixSamples, goal_of};
use stored::Stored;

/// A model with the precision of everything in it. It does not change: an edit gives another one.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct Quantized {
    origin: Origin,
    /// The model that it is compared with.
    session: Arc<Session>,
    prepared: Arc<Prepared>,
    plan: QuantPlan,
    notes: Vec<String>,
    /// What another tool quantized, where it did.
    stored: Option<Arc<Stored>>,
    /// What runs, by mode, once it did.
    runners: Mutex<Vec<(Mode, Arc<Runner>)>>,
}

#[pymethods]
impl Quantized {
    /// Reads a model that another tool quantized, beside the float model it was made from or its own twin.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, original, target, shapes, inputs, outputs, recipe))]
    #[expect(clippy::too_many_arguments, reason = "how a model is opened, by name")]
    fn read(
        py: Python<'_>,
        path: PathBuf,
        original: Option<PathBuf>,
        target: &str,
        shapes: std::collections::BTreeMap<String, Vec<usize>>,
        inputs: Vec<String>,
        outputs: Vec<String>,
        recipe: Option<(String, String)>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let origin = Origin::new(path, shapes, inputs, outputs, recipe)?;
            let (session, made, stored) = stored::open(&origin, original.as_deref(), target)?;
            let mut quantized = Self::new(origin, session, made);
            quantized.stored = Some(Arc::new(stored));
            Ok(quantized)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// The target.
    fn target(&self) -> &str {
        &self.plan.target
    }

    /// The calibration algorithm.
    fn algorithm(&self) -> &str {
        &self.plan.algorithm
    }

    /// Whether weights have a scale for each `channel` or `layer`.
    fn method(&self) -> &str {
        self.plan.method.name()
    }

    /// How many values are integers, float16 and float32.
    fn counts(&self) -> (usize, usize, usize) {
        let summary = self.plan.summary();
        (summary.n_quantized, summary.n_fp16, summary.n_float)
    }

    /// What the user should know.
    fn notes(&self) -> Vec<String> {
        let target = &self.prepared.target;
        let proof = if target.is_fp16() {
            proof_of(&self.plan)
        } else {
            Vec::new()
        };
        let notes = self.notes.iter().chain(&self.prepared.changes).cloned();
        notes.chain(proof).chain(target.note.map(str::to_owned)).collect()
    }

    /// The text of the plan file.
    fn plan_text(&self) -> String {
        format_plan(&self.plan, None)
    }

    /// The values of the plan, in execution order.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        values::values(py, &self.plan)
    }

    /// The quantized weights of the plan, in execution order.
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        values::weights(py, &self.plan)
    }

    /// The operators that the target has no integers for, and how many units of each there are.
    fn operators_in_float(&self) -> Vec<(String, usize)> {
        values::operators_in_float(&self.prepared)
    }

    /// What to feed on the board: a JSON object and a line for each input.
    fn board_inputs(&self) -> Vec<Printed> {
        let inputs = qloupe::feed::board_inputs(&self.session, &self.plan).into_iter();
        inputs
            .map(|input| (input.to_json().to_string(), input.to_string()))
            .collect()
    }

    /// The same with other precisions of some values: `fp16`, `float`, `int8`.
    #[pyo3(signature = (precisions, /))]
    fn with_precisions(&self, py: Python<'_>, precisions: Vec<(String, String)>) -> PyResult<Self> {
        self.edited(py, |plan| {
            precisions
                .iter()
                .try_for_each(|(name, precision)| plan.set_precision(name, precision))
        })
    }

    /// The same with other ranges of some integer values.
    #[pyo3(signature = (ranges, /))]
    fn with_ranges(&self, py: Python<'_>, ranges: Vec<(String, f32, f32)>) -> PyResult<Self> {
        self.edited(py, |plan| {
            ranges.iter().try_for_each(|(name, min, max)| {
                plan.set_range(&self.prepared, name, Range { min: *min, max: *max })
            })
        })
    }

    /// What a file of another tool says of the values of this plan: ranges, layers that a person gave a type, and names that
    /// match nothing.
    #[pyo3(signature = (path, /))]
    fn read_ranges<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let known = known_values(&[&self.session.network.model.graph, &self.prepared.model.graph]);
        let imported = read_ranges(&path, &known).map_err(|error| to_python(py, &error))?;
        let found = PyDict::new(py);
        let ranges = PyDict::new(py);
        for (name, range) in &imported.ranges {
            ranges.set_item(name, (range.min, range.max))?;
        }
        found.set_item("ranges", ranges)?;
        found.set_item("layers", imported.planned_layers(&self.prepared))?;
        found.set_item("unmatched", imported.unmatched)?;
        Ok(found)
    }

    /// Runs once on arrays by input name.
    #[pyo3(signature = (arrays, /, *, mode="integer"))]
    fn infer_arrays<'py>(
        &self,
        py: Python<'py>,
        arrays: &Bound<'py, PyDict>,
        mode: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let runner = self.runner(py, mode)?;
        run_arrays(py, &self.session, &runner, arrays)
    }

    /// Runs on samples; the first axis of each output is the sample.
    #[pyo3(signature = (samples, /, *, mode="integer", progress=None))]
    fn infer<'py>(
        &self,
        py: Python<'py>,
        samples: &Samples,
        mode: &str,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let runner = self.runner(py, mode)?;
        run_samples(py, &self.session, &runner, samples, progress.as_ref())
    }

    /// Compares with the float model, layer by layer.
    #[pyo3(signature = (samples, /, *, views, mode, depth, n_effect_samples, until_stable, dump=None, costs=true, labels=None,
        progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the choices of an analysis, by name")]
    fn analyze(
        &self,
        py: Python<'_>,
        samples: &Samples,
        views: Vec<String>,
        mode: &str,
        depth: &str,
        n_effect_samples: Option<usize>,
        until_stable: bool,
        dump: Option<PathBuf>,
        costs: bool,
        labels: Option<PathBuf>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Report> {
        let request = options_of(&views, mode, depth, n_effect_samples, until_stable)
            .and_then(|options| Request::new(options, dump, costs, labels));
        let request = request.map_err(|error| to_python(py, &error))?;
        let dataset = Arc::clone(&samples.dataset);
        work::run(py, progress.as_ref(), |stages| {
            let report = analyze_samples(self, &dataset, &samples.source, request, stages)?;
            Ok(Report { report })
        })
    }

    /// Tries the fixes of the first findings of a report, each by itself: the report with what each brings.
    #[pyo3(signature = (samples, calibration, report, n, /, *, mode, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of a Python method")]
    fn try_fixes(
        &self,
        py: Python<'_>,
        samples: &Samples,
        calibration: Option<&Samples>,
        report: &Report,
        n: usize,
        mode: &str,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Report> {
        let by = FixSamples::new(samples, calibration, mode).map_err(|error| to_python(py, &error))?;
        work::run(py, progress.as_ref(), |stages| {
            let report = self.tried(by, &report.report, n, stages)?;
            Ok(Report { report })
        })
    }

    /// The same with fixes that were tried, by their numbers in the report.
    #[pyo3(signature = (samples, calibration, report, numbers, /, *, mode))]
    fn with_fixes(
        &self,
        py: Python<'_>,
        samples: &Samples,
        calibration: Option<&Samples>,
        report: &Report,
        numbers: Vec<usize>,
        mode: &str,
    ) -> PyResult<Self> {
        let by = FixSamples::new(samples, calibration, mode).map_err(|error| to_python(py, &error))?;
        work::run(py, None, |_| self.fixed(by, &report.report, &numbers))
    }

    /// Proposes the least set of units in higher precision that reaches a goal.
    #[pyo3(signature = (samples, /, *, min_sqnr_db, min_cosine, max_drop, labels, mode, n_effect_samples, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the choices of a proposal, by name")]
    fn propose_hybrid(
        &self,
        py: Python<'_>,
        samples: &Samples,
        min_sqnr_db: Option<f64>,
        min_cosine: Option<f64>,
        max_drop: Option<f64>,
        labels: Option<PathBuf>,
        mode: &str,
        n_effect_samples: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Proposal> {
        let raise = |error: Error| to_python(py, &error);
        let goal = goal_of(min_sqnr_db, min_cosine, max_drop).map_err(raise)?;
        let options = ProposeOptions {
            mode: mode_of(mode).map_err(raise)?,
            n_effect_samples: n_effect_samples_of(n_effect_samples).map_err(raise)?,
        };
        let dataset = Arc::clone(&samples.dataset);
        work::run(py, progress.as_ref(), |stages| {
            self.proposed(&dataset, labels, goal, options, stages)
        })
    }

    /// The same with the precisions of a file of a proposal, edited or not.
    #[pyo3(signature = (path, /))]
    fn with_hybrid(&self, py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| self.with_hybrid_file(&read_hybrid(&path)?))
            .map_err(|error: Error| to_python(py, &error))
    }

    /// The float values and the values under test of some layers on one sample, as pairs of arrays by name.
    #[pyo3(signature = (samples, index, names, /, *, mode="integer"))]
    fn layer_values<'py>(
        &self,
        py: Python<'py>,
        samples: &Samples,
        index: usize,
        names: Vec<String>,
        mode: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mode = mode_of(mode).map_err(|error| to_python(py, &error))?;
        let dataset = Arc::clone(&samples.dataset);
        if index >= dataset.n_batches() {
            let what = format!(
                "sample {index}: there are {} runs of the samples",
                dataset.n_batches()
            );
            return Err(wrong_options(py, what));
        }
        let found = work::run(py, None, |_| {
            values_of(self, &dataset.batch(index)?, &names, mode)
        })?;
        let pairs = PyDict::new(py);
        for (name, golden, test) in found {
            let arrays = to_arrays(py, vec![("golden".to_owned(), golden), ("test".to_owned(), test)])?;
            pairs.set_item(name, (arrays.get_item("golden")?, arrays.get_item("test")?))?;
        }
        Ok(pairs)
    }

    /// Writes the model: QDQ ONNX, or float16 for targets with float16 values.
    #[pyo3(signature = (path, /))]
    fn save_model(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| {
            check_writable(&path)?;
            let model = model_of_plan(&self.session.network.file, &self.prepared, &self.plan)?;
            Ok(write_model(&model, &path)?)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// Writes the plan, and the constants that it changes beside it.
    #[pyo3(signature = (path, /))]
    fn save_plan(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| {
            check_writable(&path)?;
            check_writable(&constants_path(&path))?;
            write_plan(&path, &self.plan)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// Writes the plan for another tool: what was written, as JSON.
    #[pyo3(signature = (format, output, /, *, cfg=None, dataset=None))]
    fn export(
        &self,
        py: Python<'_>,
        format: &str,
        output: PathBuf,
        cfg: Option<PathBuf>,
        dataset: Option<PathBuf>,
    ) -> PyResult<String> {
        py.detach(|| {
            let format = export::find(format)?;
            let request = export::Request {
                model: &self.origin.path,
                plan_path: &self.origin.path,
                session: &self.session,
                prepared: &self.prepared,
                plan: &self.plan,
                cfg: cfg.as_deref(),
                dataset: dataset.as_deref(),
                crop: &self.origin.crop,
            };
            request.check(format)?;
            Ok(format.export(&request, &output)?.to_json(format).to_string())
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// How long it takes on this machine.
    #[pyo3(signature = (*, mode="integer", n_runs, n_warmup, profile, progress=None))]
    fn bench(
        &self,
        py: Python<'_>,
        mode: &str,
        n_runs: usize,
        n_warmup: usize,
        profile: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Printed> {
        let chosen = mode_of(mode).map_err(|error| to_python(py, &error))?;
        let under_plan = Some((&*self.prepared, &self.plan, chosen));
        measured(
            py,
            (&self.session, under_plan, mode),
            (n_runs, n_warmup, profile),
            progress.as_ref(),
        )
    }
}

impl Quantized {
    /// A model under the plan that was made.
    pub(crate) fn new(origin: Origin, session: Arc<Session>, made: quantize::Quantized) -> Self {
        Self {
            origin,
            session,
            prepared: Arc::new(made.prepared),
            plan: made.plan,
            notes: made.notes,
            stored: None,
            runners: Mutex::default(),
        }
    }

    /// How it came to be, in words.
    pub(crate) fn describe(&self, mode: &str) -> String {
        let plan = &self.plan;
        format!(
            "target {}, {mode} mode, calibrated on {} samples, {}, {}",
            plan.target,
            plan.n_samples,
            plan.algorithm,
            plan.method.name()
        )
    }

    /// A runner of its own.
    pub(crate) fn new_runner(&self, mode: Mode) -> Result<Runner, Error> {
        let program = self.prepared.quantized(&self.session.network, &self.plan, mode)?;
        Ok(Runner::Quantized(Box::new(program)))
    }

    /// The runner of a mode, compiled once.
    fn runner(&self, py: Python<'_>, mode: &str) -> PyResult<Arc<Runner>> {
        py.detach(|| {
            let mode = mode_of(mode)?;
            let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, runner)) = runners.iter().find(|(known, _)| *known == mode) {
                return Ok(Arc::clone(runner));
            }
            let runner = Arc::new(self.new_runner(mode)?);
            runners.push((mode, Arc::clone(&runner)));
            Ok(runner)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    fn edited(
        &self,
        py: Python<'_>,
        edit: impl FnOnce(&mut QuantPlan) -> Result<(), Error> + Send,
    ) -> PyResult<Self> {
        py.detach(|| {
            let mut plan = self.plan.clone();
            edit(&mut plan)?;
            self.prepared.check_plan(&self.session.network.file, &plan)?;
            self.under(plan)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// The same under another plan of its graph.
    fn with_plan(&self, plan: QuantPlan) -> Self {
        Self {
            origin: self.origin.clone(),
            session: Arc::clone(&self.session),
            prepared: Arc::clone(&self.prepared),
            plan,
            notes: self.notes.clone(),
            stored: self.stored.clone(),
            runners: Mutex::default(),
        }
    }

    /// The same under an edited plan: units that gave up integer weights beside float16 values have those of before.
    pub(crate) fn under(&self, plan: QuantPlan) -> Result<Self, Error> {
        if !self.prepared.target.quantizes_weights_only() {
            return Ok(self.with_plan(plan));
        }
        let network = &self.session.network;
        let made = quantize::Quantized::new(self.prepared.copied(network)?, plan);
        let made = made.with_given_up_weights(network)?;
        Ok(Self {
            prepared: Arc::new(made.prepared),
            ..self.with_plan(made.plan)
        })
    }

    /// The same again.
    pub(crate) fn copied(&self) -> Self {
        self.with_plan(self.plan.clone())
    }
}

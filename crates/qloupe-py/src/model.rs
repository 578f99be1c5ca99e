//! A float model: opened, looked into, run, and the beginning of everything else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use qloupe::bench::make_one_sample;
use qloupe::hybrid::read_hybrid;
use qloupe::mixed_fp16::quantize_to_mixed_fp16;
use qloupe::passes::resolve_branches::resolve_branches;
use qloupe::plan::Method;
use qloupe::prepare::{Crop, load_model};
use qloupe::quantize::{QuantizeOptions, quantize, quantize_as_converted, quantize_to_fp16, read_plan};
use qloupe::recipe::{Layout, Recipe};
use qloupe::runner::Runner;
use qloupe::samples::{Dataset, InputSpec};
use qloupe::session::Session;
use qloupe::weight_only::quantize_weights_alone;
use qloupe::{Error, calibrate, inspect, targets};

use crate::error::to_python;
use crate::evaluate::{self, Asked};
use crate::quantized::Quantized;
use crate::runs::{measured, run_arrays, run_samples};
use crate::samples::Samples;
use crate::tensor::from_arrays;
use crate::work;

/// JSON and the text that people read.
pub(crate) type Printed = (String, String);

/// A float model with its preprocessing.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct Model {
    origin: Origin,
    session: Arc<Session>,
}

/// What a model was opened with.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) path: PathBuf,
    pub(crate) crop: Crop,
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    pub(crate) recipe: Recipe,
}

impl Origin {
    /// `recipe` is the text of a recipe and what messages call it.
    pub(crate) fn new(
        path: PathBuf,
        shapes: BTreeMap<String, Vec<usize>>,
        inputs: Vec<String>,
        outputs: Vec<String>,
        recipe: Option<(String, String)>,
    ) -> Result<Self, Error> {
        let recipe = match recipe {
            Some((text, origin)) => Recipe::parse(&text, &origin)?,
            None => Recipe::default(),
        };
        Ok(Self {
            path,
            crop: Crop { inputs, outputs },
            shapes,
            recipe,
        })
    }
}

#[pymethods]
impl Model {
    /// Opens an ONNX model.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, shapes, inputs, outputs, recipe))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        shapes: BTreeMap<String, Vec<usize>>,
        inputs: Vec<String>,
        outputs: Vec<String>,
        recipe: Option<(String, String)>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let origin = Origin::new(path, shapes, inputs, outputs, recipe)?;
            let session = Session::open(&origin.path, &origin.crop, &origin.shapes, &origin.recipe)?;
            let session = Arc::new(session);
            Ok(Self { origin, session })
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// The inputs of a model or a part of it, without making it ready to run: entries as of `inputs`.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, inputs, outputs))]
    fn look<'py>(
        py: Python<'py>,
        path: PathBuf,
        inputs: Vec<String>,
        outputs: Vec<String>,
    ) -> PyResult<Bound<'py, PyList>> {
        let read = || -> Result<Vec<InputSpec>, Error> {
            let model = load_model(&path, &Crop { inputs, outputs })?;
            Ok(InputSpec::of_model(
                &model.graph.runtime_inputs(),
                &Recipe::default(),
            )?)
        };
        let specs = py.detach(read).map_err(|error| to_python(py, &error))?;
        described(py, &specs)
    }

    /// The file.
    fn path(&self) -> PathBuf {
        self.origin.path.clone()
    }

    /// The inputs: `name`, `dtype`, `shape` (open dimensions are None), `layout` of pictures (None where they cannot feed
    /// it), `channels` of them, whether the recipe normalizes arrays, and whether it feeds the input a value.
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        described(py, &self.session.inputs)
    }

    /// The names of the outputs.
    fn outputs(&self) -> Vec<String> {
        let outputs = self.session.network.model.graph.outputs.iter();
        outputs.map(|output| output.name.clone()).collect()
    }

    /// Whether another tool quantized the model already.
    fn is_quantized(&self) -> bool {
        qloupe::prequantized::is_quantized(&self.session.network.model)
    }

    /// Operators, shapes and costs; with a target, what it does with each operator.
    #[pyo3(signature = (target=None))]
    fn inspect(&self, py: Python<'_>, target: Option<&str>) -> PyResult<Printed> {
        py.detach(|| {
            let Origin {
                path, crop, shapes, ..
            } = &self.origin;
            let target = target.map(targets::find).transpose()?;
            let mut model = load_model(path, crop)?;
            resolve_branches(&mut model, shapes);
            let found = inspect::inspect(&model, &path.display().to_string(), shapes, target)?;
            Ok((inspect::to_json(&found).to_string(), inspect::format_text(&found)))
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// Opens samples: files, folders, lists, or NAME=FILE.
    #[pyo3(signature = (files, /))]
    fn samples(&self, py: Python<'_>, files: Vec<String>) -> PyResult<Samples> {
        let dataset = py.detach(|| Dataset::from_args(&files, &self.session.inputs));
        let dataset = dataset.map_err(|error| to_python(py, &error.into()))?;
        Ok(Samples {
            dataset: Arc::new(dataset),
            source: files.join(" "),
        })
    }

    /// Takes arrays as samples, by input name; the first axis is the sample.
    #[pyo3(signature = (arrays, /))]
    fn sample_arrays(&self, py: Python<'_>, arrays: &Bound<'_, PyDict>) -> PyResult<Samples> {
        let arrays = from_arrays(arrays)?;
        let dataset = Dataset::from_arrays(&arrays, &self.session.inputs);
        let dataset = dataset.map_err(|error| to_python(py, &error.into()))?;
        Ok(Samples {
            dataset: Arc::new(dataset),
            source: "arrays".to_owned(),
        })
    }

    /// Runs the float model once on arrays by input name.
    #[pyo3(signature = (arrays, /))]
    fn infer_arrays<'py>(
        &self,
        py: Python<'py>,
        arrays: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        run_arrays(py, &self.session, &Runner::Float, arrays)
    }

    /// Runs the float model on samples; the first axis of each output is the sample.
    #[pyo3(signature = (samples, /, *, progress=None))]
    fn infer<'py>(
        &self,
        py: Python<'py>,
        samples: &Samples,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        run_samples(py, &self.session, &Runner::Float, samples, progress.as_ref())
    }

    /// Makes a plan. Target `fp16` with samples keeps in float32 what they show to need it.
    #[pyo3(signature = (target, samples=None, *, algorithm, method, optimization_level, statistics=None, ranges=None,
        as_converted=false, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the choices of a build, by name")]
    fn build(
        &self,
        py: Python<'_>,
        target: &str,
        samples: Option<&Samples>,
        algorithm: &str,
        method: Option<&str>,
        optimization_level: u8,
        statistics: Option<PathBuf>,
        ranges: Option<PathBuf>,
        as_converted: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Quantized> {
        let options = || -> Result<QuantizeOptions, Error> {
            let target = targets::find(target)?;
            let method = method.map(Method::parse).transpose()?;
            Ok(QuantizeOptions {
                target,
                algorithm: calibrate::find(algorithm)?,
                method: Method::for_target(method, target)?,
                optimization_level,
                statistics,
                ranges,
            })
        };
        let options = options().map_err(|error| to_python(py, &error))?;
        let dataset = samples.map(|samples| Arc::clone(&samples.dataset));
        work::run(py, progress.as_ref(), |stages| {
            let session = self.resolved(dataset.as_deref())?;
            let made = match (&dataset, options.target.activation) {
                (Some(dataset), None) if options.target.is_fp16() => {
                    quantize_to_mixed_fp16(&session, dataset, &options, stages)?
                }
                (None, None) if options.target.quantizes_weights_only() => {
                    quantize_weights_alone(&session, None, &options)?
                }
                (Some(dataset), Some(_)) if as_converted => {
                    quantize_as_converted(&session, dataset, &options, stages)?
                }
                (Some(dataset), _) => quantize(&session, dataset, &options, stages)?,
                (None, None) => quantize_to_fp16(&session, &make_one_sample(&session)?)?,
                (None, Some(_)) => {
                    let id = options.target.id;
                    let what = format!("calibration samples are missing for target {id}, expected a dataset");
                    return Err(Error::Options(what));
                }
            };
            Ok(Quantized::new(self.origin.clone(), session, made))
        })
    }

    /// Reads a plan that was saved, edited or not.
    #[pyo3(signature = (path, /))]
    fn read_plan(&self, py: Python<'_>, path: PathBuf) -> PyResult<Quantized> {
        let read = py.detach(|| read_plan(&path, &self.session));
        let made = read.map_err(|error| to_python(py, &error))?;
        Ok(Quantized::new(
            self.origin.clone(),
            Arc::clone(&self.session),
            made,
        ))
    }

    /// Reads the file of a proposal, and the plan that it is a change of: the one it names, where none is given.
    #[pyo3(signature = (path, /, *, plan=None))]
    fn read_hybrid(&self, py: Python<'_>, path: PathBuf, plan: Option<PathBuf>) -> PyResult<Quantized> {
        py.detach(|| {
            let file = read_hybrid(&path)?;
            let plan = plan.or_else(|| file.plan_path()).ok_or_else(|| {
                let file = path.display();
                Error::Options(format!("{file}: tells no plan, expected one beside it, plan=.."))
            })?;
            let made = read_plan(&plan, &self.session)?;
            Quantized::new(self.origin.clone(), Arc::clone(&self.session), made).with_hybrid_file(&file)
        })
        .map_err(|error: Error| to_python(py, &error))
    }

    /// How often the model is right in each precision.
    #[pyo3(signature = (labels, samples, *, quantized=None, precisions=None, task=None, output=None, classes=None,
        mode="integer", progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the choices of an evaluation, by name")]
    fn evaluate(
        &self,
        py: Python<'_>,
        labels: PathBuf,
        samples: Vec<String>,
        quantized: Option<&Quantized>,
        precisions: Option<Vec<String>>,
        task: Option<String>,
        output: Option<String>,
        classes: Option<Vec<String>>,
        mode: &str,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Printed> {
        let asked = Asked {
            labels,
            samples,
            precisions,
            task,
            output,
            classes,
        };
        evaluate::evaluate(py, &self.session, quantized, &asked, mode, progress.as_ref())
    }

    /// Plans of several algorithms and methods side by side.
    #[pyo3(signature = (target, calibration, samples, *, algorithms, methods, optimization_level, labels=None,
        labelled_samples=None, mode="integer", progress=None))]
    #[expect(clippy::too_many_arguments, reason = "the choices of a comparison, by name")]
    fn compare(
        &self,
        py: Python<'_>,
        target: &str,
        calibration: &Samples,
        samples: &Samples,
        algorithms: Vec<String>,
        methods: Vec<String>,
        optimization_level: u8,
        labels: Option<PathBuf>,
        labelled_samples: Option<Vec<String>>,
        mode: &str,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Printed> {
        let options = || -> Result<Vec<QuantizeOptions>, Error> {
            let mut all = Vec::new();
            for algorithm in &algorithms {
                for method in &methods {
                    all.push(QuantizeOptions {
                        algorithm: calibrate::find(algorithm)?,
                        method: Method::parse(method)?,
                        optimization_level,
                        ..QuantizeOptions::new(targets::find(target)?)
                    });
                }
            }
            Ok(all)
        };
        let options = options().map_err(|error| to_python(py, &error))?;
        let labels = labels.map(|labels| (labels, labelled_samples.unwrap_or_default()));
        let datasets = (Arc::clone(&calibration.dataset), Arc::clone(&samples.dataset));
        let mode = evaluate::mode_of(mode).map_err(|error| to_python(py, &error))?;
        work::run(py, progress.as_ref(), |stages| {
            let session = self.resolved(Some(&datasets.0))?;
            evaluate::compare(
                &session,
                (&datasets.0, &datasets.1),
                &options,
                labels,
                mode,
                stages,
            )
        })
    }

    /// How long the float model takes on this machine.
    #[pyo3(signature = (*, n_runs, n_warmup, profile, progress=None))]
    fn bench(
        &self,
        py: Python<'_>,
        n_runs: usize,
        n_warmup: usize,
        profile: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Printed> {
        measured(
            py,
            (&self.session, None, "float"),
            (n_runs, n_warmup, profile),
            progress.as_ref(),
        )
    }
}

/// Writes a model again, with what lies beside it in files of external data: the copy needs the original no more.
#[pyfunction]
#[pyo3(signature = (source, target, /))]
pub(crate) fn copy_model(py: Python<'_>, source: PathBuf, target: PathBuf) -> PyResult<()> {
    py.detach(|| qloupe::write::copy_model(&source, &target))
        .map_err(|error| to_python(py, &error))
}

/// Inputs as dicts.
fn described<'py>(py: Python<'py>, specs: &[InputSpec]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for spec in specs {
        let input = PyDict::new(py);
        input.set_item("name", &spec.name)?;
        input.set_item("dtype", spec.dtype.name())?;
        input.set_item("shape", &spec.shape)?;
        let image = spec.image.as_ref().ok();
        let layout = image.map(|image| match image.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        });
        input.set_item("layout", layout)?;
        input.set_item("channels", image.map(|image| image.channel_order.name()))?;
        input.set_item("normalizes_arrays", spec.recipe.normalize_arrays)?;
        input.set_item("is_fed_by_recipe", spec.constant.is_some())?;
        list.append(input)?;
    }
    Ok(list)
}

impl Model {
    /// The session; where shapes of the samples decide branches, one in which they are put in place.
    fn resolved(&self, dataset: Option<&Dataset>) -> Result<Arc<Session>, Error> {
        let model = &self.session.network.model;
        let has_branches = model.graph.nodes.iter().any(|node| node.is_onnx("If"));
        let Some(dataset) = dataset.filter(|_| has_branches) else {
            return Ok(Arc::clone(&self.session));
        };
        let Origin { shapes, recipe, .. } = &self.origin;
        let mut session =
            Session::of_model(self.session.network.file.clone(), model.clone(), shapes, recipe)?;
        session.resolve_branches(&dataset.batch(0)?.inputs)?;
        Ok(Arc::new(session))
    }
}

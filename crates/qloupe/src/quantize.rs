//! From a float network and samples to a plan: what `build`, `analyze`, `evaluate`, `infer` and `bench` begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qloupe_exec::Mode;
use qloupe_tensor::{QuantScheme, Range, Tensor};

use crate::Error;
use crate::calibrate::statistics_file::{read_statistics, write_statistics};
use crate::calibrate::{self, Algorithm, Calibration, Statistics};
use crate::one_unit::Changes;
use crate::optimize::{self, Work};
use crate::plan::{
    Method, Optimized, PlanArrays, PlanHead, PlanOptions, QuantPlan, build_plan, fit_biases, parse_plan,
    read_head,
};
use crate::prepare::{Network, Prepared};
use crate::ranges::{known_values, read_ranges};
use crate::runner::Runner;
use crate::samples::{Batch, Dataset};
use crate::session::Session;
use crate::targets::{self, Target};
use crate::weight_only::quantize_weights;

/// The algorithm of a plan without ranges.
pub const NO_ALGORITHM: &str = "none";
/// The algorithm where none is named.
pub const DEFAULT_ALGORITHM: &str = "auto";
/// The level that runs every pass.
pub const DEFAULT_OPTIMIZATION_LEVEL: u8 = 3;

/// What the user chose.
#[derive(Clone)]
pub struct QuantizeOptions {
    /// The target.
    pub target: &'static Target,
    /// How ranges are found.
    pub algorithm: &'static dyn Algorithm,
    /// Which elements of a weight share a scale.
    pub method: Method,
    /// 0 changes no weight and no value.
    pub optimization_level: u8,
    /// Where the statistics are kept: read if the file exists, written otherwise.
    pub statistics: Option<PathBuf>,
    /// A file of ranges of another tool, which are used as they are.
    pub ranges: Option<PathBuf>,
}

impl QuantizeOptions {
    /// The defaults for a target: `auto`, its own method, every pass.
    pub fn new(target: &'static Target) -> Self {
        Self {
            target,
            algorithm: calibrate::find(DEFAULT_ALGORITHM).expect("invariant: the default exists"),
            method: target.default_method(),
            optimization_level: DEFAULT_OPTIMIZATION_LEVEL,
            statistics: None,
            ranges: None,
        }
    }
}

impl std::fmt::Debug for QuantizeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizeOptions")
            .field("target", &self.target.id)
            .field("algorithm", &self.algorithm.id())
            .field("method", &self.method)
            .field("optimization_level", &self.optimization_level)
            .finish_non_exhaustive()
    }
}

/// The prepared graph and the plan.
#[derive(Debug)]
pub struct Quantized {
    /// The graph that the target executes.
    pub prepared: Prepared,
    /// What precision everything in it has.
    pub plan: QuantPlan,
    /// What the user should know: names of a file of ranges that match nothing.
    pub notes: Vec<String>,
}

impl Quantized {
    /// A plan of a prepared graph.
    pub fn new(prepared: Prepared, plan: QuantPlan) -> Self {
        Self {
            prepared,
            plan,
            notes: Vec::new(),
        }
    }

    /// What runs under the plan.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn runner(&self, session: &Session, mode: Mode) -> Result<Runner, Error> {
        let program = self.prepared.quantized(&session.network, &self.plan, mode)?;
        Ok(Runner::Quantized(Box::new(program)))
    }

    /// The same where units that gave up their integer weights beside float16 values compute with what these were before passes
    /// rounded them, and with the biases of then; as it is for other targets.
    ///
    /// # Errors
    /// A model that cannot be prepared.
    pub fn with_given_up_weights(self, network: &Network) -> Result<Self, Error> {
        let Self {
            prepared,
            mut plan,
            notes,
        } = self;
        let (mut given_up, mut kept): (BTreeSet<&String>, BTreeSet<&String>) = Default::default();
        for (unit, spec) in prepared.units.iter().zip(prepared.assignment(&plan).units) {
            let has_weights = unit
                .weights
                .iter()
                .any(|name| spec.weights.iter().any(|(w, _)| w == name));
            let names = if has_weights { &mut kept } else { &mut given_up };
            names.extend(unit.weights.iter().chain(&unit.bias));
        }
        let is_given_up = |name: &String| given_up.contains(name) && !kept.contains(name);
        let optimized = &mut plan.optimized;
        let n_before = optimized.constants.len();
        if prepared.target.quantizes_weights_only() {
            optimized.constants.retain(|name, _| !is_given_up(name));
            optimized.new_biases.retain(|_, bias| !is_given_up(bias));
        }
        if optimized.constants.len() == n_before {
            return Ok(Self {
                prepared,
                plan,
                notes,
            });
        }
        let fresh = Prepared::new(network, prepared.target, plan.optimization_level)?;
        let optimized = &plan.optimized;
        let prepared = fresh.with_constants(network, &optimized.constants, &optimized.new_biases)?;
        Ok(Self {
            prepared,
            plan,
            notes,
        })
    }

    /// The same plan on changed constants; `None` where nothing changed.
    pub(crate) fn with_changes(&self, network: &Network, changes: Changes) -> Result<Option<Self>, Error> {
        let Changes {
            constants,
            new_biases,
            params,
        } = changes;
        if constants.is_empty() {
            return Ok(None);
        }
        let prepared = self.prepared.with_constants(network, &constants, &new_biases)?;
        let mut plan = self.plan.clone();
        for weight in &mut plan.weights {
            if let Some(other) = params.get(&weight.name) {
                weight.params.clone_from(other);
            }
        }
        fit_biases(&prepared, &mut plan)?;
        plan.optimized.constants.extend(constants);
        plan.optimized.new_biases.extend(new_biases);
        Ok(Some(Self {
            prepared,
            plan,
            notes: self.notes.clone(),
        }))
    }
}

/// Told what is being done, and after every part how many are done, of how many.
pub type Stages<'a> = &'a (dyn Fn(&str, usize, usize) + Sync);

/// Calibrates on a dataset and makes a plan.
///
/// # Errors
/// A model that cannot be prepared, a sample that cannot be read, a run that fails, statistics that do not fit.
pub fn quantize(
    session: &Session,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Quantized, Error> {
    if options.target.quantizes_weights_only() {
        return quantize_weights(session, dataset, options, stages);
    }
    let prepared = Prepared::new(&session.network, options.target, options.optimization_level)?;
    let Some(scheme) = options.target.activation.filter(|_| !dataset.is_empty()) else {
        // float16 needs no ranges: one run tells which values are float.
        return with_plain_ranges(prepared, [(0, dataset.batch(0)?.inputs.as_slice())], options);
    };
    let work = Work::new(session, dataset, options, stages)?;
    let (prepared, optimized) = optimize::restructure(&work, prepared)?;
    let statistics = statistics_of(&prepared, dataset, options, stages)?;
    quantize_by(&work, prepared, optimized, &statistics, &scheme)
}

/// As [`quantize`], of the graph as the target's own converter leaves it: batch norms are folded where the level folds them,
/// and no rewrite that only qloupe knows is tried. What is simulated is what a converter builds with the ranges of the plan.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_as_converted(
    session: &Session,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Quantized, Error> {
    let Some(scheme) = options.target.activation.filter(|_| !dataset.is_empty()) else {
        return quantize(session, dataset, options, stages);
    };
    let prepared = Prepared::new(&session.network, options.target, options.optimization_level)?;
    let statistics = statistics_of(&prepared, dataset, options, stages)?;
    let quantized = with_ranges(&session.network, prepared, options, &statistics, &scheme)?;
    if !optimize::races(options) {
        return Ok(quantized);
    }
    let work = Work::new(session, dataset, options, stages)?;
    optimize::optimize(&work, quantized, &statistics)
}

/// Makes the plan of a network that was rewritten (`optimized` says how) and calibrated.
///
/// # Errors
/// As [`quantize`].
pub(crate) fn quantize_by(
    work: &Work<'_>,
    prepared: Prepared,
    optimized: Optimized,
    statistics: &Statistics,
    scheme: &QuantScheme,
) -> Result<Quantized, Error> {
    let mut quantized = with_ranges(work.network(), prepared, work.options(), statistics, scheme)?;
    quantized.plan.optimized = optimized;
    optimize::optimize(work, quantized, statistics)
}

/// The plan of a calibrated graph with the ranges of the algorithm, or with those of the user's file.
fn with_ranges(
    network: &Network,
    prepared: Prepared,
    options: &QuantizeOptions,
    statistics: &Statistics,
    scheme: &QuantScheme,
) -> Result<Quantized, Error> {
    let mut ranges = statistics.ranges(options.algorithm, scheme);
    let imported = imported(network, &prepared, options, &mut ranges)?;
    let mut quantized = planned(prepared, &ranges, options, statistics.n_samples)?;
    if let Some((format, notes)) = imported {
        quantized.plan.algorithm = format!("{} with ranges of {format}", quantized.plan.algorithm);
        quantized.notes = notes;
    }
    Ok(quantized)
}

/// Replaces ranges by those of the user's file, if there is one: its format, and what was not found.
fn imported(
    network: &Network,
    prepared: &Prepared,
    options: &QuantizeOptions,
    ranges: &mut BTreeMap<String, Range>,
) -> Result<Option<(&'static str, Vec<String>)>, Error> {
    let Some(path) = &options.ranges else {
        return Ok(None);
    };
    let known = known_values(&[&network.model.graph, &prepared.model.graph]);
    let imported = read_ranges(path, &known)?;
    Ok(Some((imported.format, imported.apply(prepared, ranges))))
}

/// Everything in float16. The inputs are of one run, which tells what values are float.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_to_fp16(session: &Session, inputs: &[(String, Tensor)]) -> Result<Quantized, Error> {
    let options = QuantizeOptions::new(targets::find("fp16")?);
    let prepared = Prepared::new(&session.network, options.target, options.optimization_level)?;
    with_plain_ranges(prepared, [(0, inputs)], &options)
}

/// The plan of a prepared graph with the whole ranges of some samples, each with its number, and nothing else done.
///
/// # Errors
/// A run that fails, a value that is not finite.
pub fn with_plain_ranges<'s>(
    prepared: Prepared,
    samples: impl IntoIterator<Item = (usize, &'s [(String, Tensor)])>,
    options: &QuantizeOptions,
) -> Result<Quantized, Error> {
    let names: BTreeSet<String> = prepared.value_names().into_iter().collect();
    let mut calibration = Calibration::new(&prepared.program, &names, true);
    for (idx, inputs) in samples {
        calibration.observe(&Batch::single(idx, inputs.to_vec()))?;
    }
    let statistics = calibration.finish();
    let sketches = statistics.sketches.into_iter();
    let ranges = sketches.map(|(name, sketch)| (name, sketch.range())).collect();
    planned(prepared, &ranges, options, statistics.n_samples)
}

/// The plan of a network whose values have their whole ranges on a dataset, and nothing else done.
///
/// # Errors
/// A sample that cannot be read, a run that fails, a value that is not finite.
pub(crate) fn with_whole_ranges(
    session: &Session,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Quantized, Error> {
    let prepared = Prepared::new(&session.network, options.target, options.optimization_level)?;
    let ranges_only = QuantizeOptions {
        algorithm: calibrate::find("min_max")?,
        statistics: None,
        ..options.clone()
    };
    let statistics = statistics_of(&prepared, dataset, &ranges_only, stages)?;
    let sketches = statistics.sketches.iter();
    let ranges = sketches.map(|(name, sketch)| (name.clone(), sketch.range()));
    planned(prepared, &ranges.collect(), options, statistics.n_samples)
}

/// The statistics of a dataset: those of the file, or new ones, which are written to it.
///
/// # Errors
/// A sample that cannot be read, a run that fails, a file that does not fit.
pub(crate) fn statistics_of(
    prepared: &Prepared,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Statistics, Error> {
    let file: Option<(&Path, u64)> = match &options.statistics {
        Some(path) => Some((path, prepared.fingerprint()?)),
        None => None,
    };
    if let Some((path, fingerprint)) = file.filter(|(path, _)| path.exists()) {
        return read_statistics(path, fingerprint);
    }
    let names: BTreeSet<String> = prepared.value_names().into_iter().collect();
    // What is kept for another algorithm has to serve all of them.
    let ranges_only = options.algorithm.needs_ranges_only() && file.is_none();
    let n_batches = dataset.n_batches();
    let statistics = calibrate::calibrate(
        &prepared.program,
        &names,
        dataset,
        n_batches,
        ranges_only,
        &|done, all| stages("calibrate", done, all),
    )?;
    if let Some((path, fingerprint)) = file {
        write_statistics(path, &statistics, fingerprint)?;
    }
    Ok(statistics)
}

/// The plan of a graph whose values have these ranges, and nothing else done.
///
/// # Errors
/// A range that is not finite.
pub(crate) fn planned(
    prepared: Prepared,
    ranges: &BTreeMap<String, Range>,
    options: &QuantizeOptions,
    n_samples: usize,
) -> Result<Quantized, Error> {
    let is_integer = options.target.activation.is_some();
    let algorithm = if is_integer {
        options.algorithm.id()
    } else {
        NO_ALGORITHM
    };
    let options = PlanOptions {
        target: options.target,
        algorithm: algorithm.to_owned(),
        method: options.method,
        optimization_level: options.optimization_level,
        n_samples,
    };
    let plan = build_plan(&prepared, ranges, &options)?;
    Ok(Quantized::new(prepared, plan))
}

/// What a plan file says before its model is known.
///
/// # Errors
/// A file that cannot be read, or is no plan.
pub fn read_plan_head(path: &Path) -> Result<PlanHead, Error> {
    read_head(&path.display().to_string(), &text_of(path)?)
}

fn text_of(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::File {
        path: path.to_owned(),
        what: format!("cannot be read: {e}"),
    })
}

/// The graph prepared as a plan file says, and the plan.
///
/// # Errors
/// A file that cannot be read or does not fit the model.
pub fn read_plan(path: &Path, session: &Session) -> Result<Quantized, Error> {
    let file = path.display().to_string();
    let text = text_of(path)?;
    let head = read_head(&file, &text)?;
    let network = &session.network;
    let prepared = Prepared::new(network, targets::find(&head.target)?, head.optimization_level)?;
    let mut prepared = prepared.with_rewrites(network, (&head.rescales, &head.scalings, &head.shifts))?;
    let arrays = match &head.constants {
        Some(name) => PlanArrays::open(&path.with_file_name(name))?,
        None => PlanArrays::default(),
    };
    let shape = |name: &str| prepared.program.constant(name).map(Tensor::shape);
    arrays.check_scales(&head, shape)?;
    let (values, weights) = (prepared.value_names(), prepared.weight_names());
    let mut plan = parse_plan(&file, &text, &values, &weights, &arrays)?;
    if head.constants.is_some() {
        let constants = arrays.constants(&plan, shape)?;
        prepared = prepared.with_constants(network, &constants, &plan.optimized.new_biases)?;
        plan.optimized.constants = constants;
    }
    plan.optimized.rescales = head.rescales;
    plan.optimized.scalings = head.scalings;
    plan.optimized.shifts = head.shifts;
    prepared.check_plan(&file, &plan)?;
    Quantized::new(prepared, plan).with_given_up_weights(network)
}

//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use qloupe::prepare::Crop;
use qloupe::quantize::DEFAULT_OPTIMIZATION_LEVEL;
use qloupe::recipe::Recipe;
use qloupe::session::Session;
use qloupe::write::check_writable;

/// The model and what part of it is meant.
#[derive(Args, Debug)]
pub(crate) struct ModelArgs {
    /// The ONNX model
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// Fix an input's shape, for example x=1,3,48,320 (can be repeated)
    #[arg(long, value_name = "NAME=DIMS")]
    shape: Vec<String>,
    /// Begin at these values instead of the inputs
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    crop_inputs: Vec<String>,
    /// End at these values instead of the outputs
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    crop_outputs: Vec<String>,
    /// Use this many threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl ModelArgs {
    /// The model, where it is given: only a command that says so can do without.
    pub(crate) fn given_path(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// The model.
    pub(crate) fn path(&self) -> &Path {
        self.given_path()
            .expect("invariant: required, but for a command that asks for the given path")
    }

    /// What part of the model is wanted.
    pub(crate) fn crop(&self) -> Crop {
        Crop {
            inputs: self.crop_inputs.clone(),
            outputs: self.crop_outputs.clone(),
        }
    }

    /// The shapes that the user fixed.
    pub(crate) fn shapes(&self) -> anyhow::Result<BTreeMap<String, Vec<usize>>> {
        self.shape.iter().map(|text| parse_shape(text)).collect()
    }

    /// Sets up the threads and opens the model.
    pub(crate) fn open(&self, recipe: Option<&Path>) -> anyhow::Result<Session> {
        self.set_threads()?;
        let recipe = read_recipe(recipe)?;
        Ok(Session::open(
            self.path(),
            &self.crop(),
            &self.shapes()?,
            &recipe,
        )?)
    }

    pub(crate) fn set_threads(&self) -> anyhow::Result<()> {
        if self.threads == Some(0) {
            bail!("--threads: expected at least 1, got 0");
        }
        // Without a number the threads start when they are needed; in one process they can only be set once.
        let Some(n_threads) = self.threads else {
            return Ok(());
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
        pool.build_global().context("cannot start the threads")
    }

    /// Checks before the work that an output can be written and is not the model itself.
    pub(crate) fn check_output(&self, output: &Path) -> anyhow::Result<()> {
        if self.given_path().is_some_and(|model| is_same_file(output, model)) {
            bail!("{output:?} cannot be written: it is the model that is read, expected another file");
        }
        Ok(check_writable(output).map_err(qloupe::Error::from)?)
    }

    /// The path of an output beside the model: `model.onnx` becomes `model.int8.onnx`.
    pub(crate) fn beside(&self, extension: &str) -> PathBuf {
        self.path().with_extension(extension)
    }
}

/// The recipe of a file, or that of none.
pub(crate) fn read_recipe(path: Option<&Path>) -> anyhow::Result<Recipe> {
    Ok(match path {
        Some(path) => Recipe::read(path).map_err(qloupe::Error::from)?,
        None => Recipe::default(),
    })
}

/// True when both paths lead to one file that exists.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn parse_shape(text: &str) -> anyhow::Result<(String, Vec<usize>)> {
    let wrong = || format!("--shape {text}: expected NAME=DIMS, for example x=1,3,48,320");
    let (name, dims) = text.rsplit_once('=').with_context(wrong)?;
    let dims = dims
        .split(',')
        .map(|d| d.trim().parse::<usize>().ok().filter(|&d| d > 0));
    Ok((
        name.to_owned(),
        dims.collect::<Option<Vec<usize>>>().with_context(wrong)?,
    ))
}

/// How a model is quantized.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct QuantizeArgs {
    /// The target: onnxruntime, rk3588, ...
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Samples to calibrate on: a folder of images, a dataset.txt, an .npz, .npy or .safetensors file
    #[arg(long, value_name = "DATASET")]
    pub(crate) dataset: Option<PathBuf>,
    /// How ranges are found [default: auto]
    #[arg(long, value_name = "ALGORITHM")]
    pub(crate) algorithm: Option<String>,
    /// Ranges that another tool calibrated, instead of those of --algorithm: a .quantization.cfg of rknn-toolkit2, a
    /// calibration cache of TensorRT or of ONNX Runtime (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) ranges: Option<PathBuf>,
    /// Scales of weights: block (targets with int4 weights), channel or layer [default: block where there are, else channel]
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// 0 changes no weight and no value; 1 folds batch norms, rescales a last Concat or leaves what follows the last products in float, and ends ranges where what reads them saturates; 2 also moves scales and
    /// constants between layers, brings members of a Concat to one magnitude and zeroes dead channels; 3 also corrects biases and rounds weights by what they do [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) optimization_level: Option<u8>,
    /// Keep the statistics of calibration in this .npz: read if it exists, written otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) statistics: Option<PathBuf>,
    /// Use this plan instead of calibrating
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// fp16: float16 instead of integers; with --dataset, units that overflow, vanish or lose too much there stay float32
    #[arg(long, value_name = "PRECISION")]
    pub(crate) precision: Option<String>,
    /// How inputs are made from images: a TOML file with [input.NAME]
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
}

impl QuantizeArgs {
    /// The optimization level, or its default.
    pub(crate) fn optimization_level(&self) -> u8 {
        self.optimization_level.unwrap_or(DEFAULT_OPTIMIZATION_LEVEL)
    }

    /// The options that say what a plan says already.
    pub(crate) fn given_beside_plan(&self) -> Vec<&'static str> {
        let mut given = self.given_beside_quantized();
        given.retain(|name| *name != "--plan");
        if self.target.is_some() {
            given.insert(0, "--target");
        }
        given
    }

    /// The options that say how to quantize, which a model that is quantized already says itself.
    pub(crate) fn given_beside_quantized(&self) -> Vec<&'static str> {
        let options = [
            ("--plan", self.plan.is_some()),
            ("--dataset", self.dataset.is_some()),
            ("--precision", self.precision.is_some()),
            ("--algorithm", self.algorithm.is_some()),
            ("--ranges", self.ranges.is_some()),
            ("--method", self.method.is_some()),
            ("--statistics", self.statistics.is_some()),
            ("--optimization-level", self.optimization_level.is_some()),
        ];
        options
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect()
    }
}

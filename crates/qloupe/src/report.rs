//! The report: plain data that says where accuracy was lost, and the list of formats that print it.
//!
//! This file is the schema of `report.json` (documented in `docs/report.schema.md`). It computes nothing: `metrics`
//! fills the numbers, the analysis fills the rest. It is long because a schema is one file: no other may derive serde for it, and
//! a test holds every field here against `docs/report.schema.json` and the prose.

mod confidence;
mod csv;
mod escape;
mod figure;
mod gate;
pub(crate) mod grid;
mod html;
mod json;
mod junit;
mod md;
mod options;
mod ranking;
#[cfg(test)]
pub(crate) mod sample;
mod story;
mod table;
#[cfg(test)]
mod tests;
mod txt;
mod view;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use gate::parse_limit;
pub use gate::{Gate, GateError, GateOutcome};
pub use options::{Options, Thresholds, TxtStyle};
pub use ranking::Verdict;
pub(crate) use ranking::worst_layers;
pub use view::View;
pub(crate) use view::figure_of;
pub(crate) use words::{headline, slice_words};

/// Every format, by id.
pub const FORMATS: &[&dyn ReportFormat] = &[
    &csv::Csv,
    &html::Html,
    &json::Json,
    &junit::Junit,
    &md::Md,
    &table::Table,
    &txt::Txt,
];

/// A way to print a report.
pub trait ReportFormat: Sync {
    /// The name on the command line.
    fn id(&self) -> &'static str;
    /// The file extension that chooses this format; `None` if it is for a terminal only.
    fn extension(&self) -> Option<&'static str>;
    /// The report as text, with a newline at the end.
    fn write(&self, report: &Report, options: &Options) -> String;
}

impl std::fmt::Debug for dyn ReportFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

/// The format of files with this extension (without the dot).
pub fn format_of_extension(extension: &str) -> Option<&'static dyn ReportFormat> {
    FORMATS.iter().copied().find(|f| f.extension() == Some(extension))
}

/// The format of a name.
pub fn find_format(id: &str) -> Option<&'static dyn ReportFormat> {
    FORMATS.iter().copied().find(|f| f.id() == id)
}

/// Every file extension that chooses a format.
pub fn extensions() -> Vec<&'static str> {
    FORMATS.iter().filter_map(|f| f.extension()).collect()
}

/// The value of [`Report::schema`]. The number rises when a field changes its meaning or goes away.
pub const SCHEMA: &str = "qloupe-report/1";

/// Metric id to value.
pub type Metrics = BTreeMap<String, MetricValue>;

/// Everything one analysis found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What wrote the report.
    pub tool: Tool,
    /// The model.
    pub model: ModelSummary,
    /// The target id, `rk3588`.
    pub target: String,
    /// How the model under test ran: `fake-quant`, `integer`, `fp16`, `w4a16` or `w8a16`.
    pub mode: String,
    /// How the model was quantized.
    pub plan: PlanSummary,
    /// What was measured on.
    pub samples: Samples,
    /// One row for each float value of a unit, in execution order; network inputs first.
    pub layers: Vec<Layer>,
    /// The network outputs.
    pub outputs: Vec<Output>,
    /// What is wrong and what to do, the most severe first.
    pub findings: Vec<Finding>,
    /// Whether the errors of units add up; absent where `alone` was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additivity: Option<Additivity>,
    /// The limits that the user set, and whether they were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateResult>,
    /// How often the answers are right, where labels were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// Values that have no row.
    pub skipped: Vec<Skipped>,
    /// The closing table: what each precision costs.
    pub costs: Vec<Cost>,
    /// What a reader has to know to judge the numbers, one sentence each.
    pub notes: Vec<String>,
    /// Where the time went.
    pub timing: Timing,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            tool: Tool::default(),
            model: ModelSummary::default(),
            target: String::new(),
            mode: String::new(),
            plan: PlanSummary::default(),
            samples: Samples::default(),
            layers: Vec::new(),
            outputs: Vec::new(),
            findings: Vec::new(),
            additivity: None,
            gates: Vec::new(),
            accuracy: None,
            skipped: Vec::new(),
            costs: Vec::new(),
            notes: Vec::new(),
            timing: Timing::default(),
        }
    }
}

/// What wrote the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// `qloupe`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Default for Tool {
    fn default() -> Self {
        Self {
            name: "qloupe".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The model that was analyzed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The file, as the user named it.
    pub file: String,
    /// The opset of the default domain.
    pub opset: i64,
    /// Nodes of the graph.
    pub n_nodes: usize,
    /// Elements of all weights.
    pub n_params: usize,
}

/// How the model was quantized.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// The calibration algorithm, `min_max`.
    pub algorithm: String,
    /// `layer` or `channel`.
    pub method: String,
    /// 0 to 3.
    pub optimization_level: u8,
    /// Values that are quantized.
    pub n_quantized: usize,
    /// Values that are float16.
    pub n_fp16: usize,
    /// Values that stay float32.
    pub n_float: usize,
    /// The plan file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What was measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Samples that every number of this report is taken over.
    pub n: usize,
    /// Where they come from, as the user named it.
    pub source: String,
    /// Samples that the ranges were calibrated on.
    pub n_calibration: usize,
}

/// One value of the original graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The value, named as in the ONNX file.
    pub name: String,
    /// The operator of `node`; `Input` for a network input.
    pub op_type: String,
    /// The node that produces the value; empty for a network input.
    pub node: String,
    /// All nodes that the target executes as one with `node`, in order; only where there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unit: Vec<String>,
    /// The value whose row stands for this one, because the target never has this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_into: Option<String>,
    /// Why there are no numbers, `fused into "X"`; absent where there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The dtype the target stores the value in.
    pub dtype: String,
    /// The shape of the first sample.
    pub shape: Vec<usize>,
    /// One scale, or one for each channel; empty where the value is not quantized.
    pub scale: Vec<f32>,
    /// One zero point for each scale.
    pub zero_point: Vec<i32>,
    /// The calibrated range in real units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ValueRange>,
    /// What the golden values of the samples of `alone` span; absent where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<ValueRange>,
    /// Elements that are NaN in the golden or in the tested value, over all samples. They are in no metric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_nan: u64,
    /// Elements that are infinite in the golden or in the tested value, over all samples.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_infinite: u64,
    /// Errors of the simulated target against the golden run.
    #[serde(default)]
    pub views: Views,
    /// The samples with the largest errors by `sqnr_db` of `entire`, the worst first; only where there are several samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_samples: Vec<WorstSample>,
    /// Errors of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeViews>,
    /// What the unit does to the network outputs; absent where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The answers that the unit's error alone changes, by network output or slice, where that looks like scores of classes;
    /// absent where `alone` is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flips: BTreeMap<String, Flips>,
    /// What the local error is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The rewrites that touched the value, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<Provenance>,
}

/// A closed range of real values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueRange {
    /// The smallest value.
    #[serde(with = "number")]
    pub min: f64,
    /// The largest value.
    #[serde(with = "number")]
    pub max: f64,
}

/// The views that were computed; the others are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Views {
    /// Everything quantized.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entire: Metrics,
    /// One quantize-dequantize of the golden value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensor: Metrics,
    /// One unit quantized, fed golden inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub local: Metrics,
    /// Only this unit quantized, by network output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alone: BTreeMap<String, Metrics>,
    /// Everything but this unit quantized, by network output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rescued: BTreeMap<String, Metrics>,
}

/// The views that need a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuntimeViews {
    /// Golden against device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entire: Metrics,
    /// Simulator's entire run against device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub simulator: Metrics,
    /// One unit on its own: see `local_inputs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub local: Metrics,
    /// `device`: the simulator replayed the unit on the device's own inputs; `golden`: the device ran the unit on
    /// golden inputs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub local_inputs: String,
}

/// What one unit does to the network outputs, in two numbers that units are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The part of its noise in the sum over all units, each alone, 0 to 1.
    #[serde(with = "number")]
    pub share: f64,
    /// Its noise alone, relative to the energy of the outputs: the mean over outputs and their slices.
    #[serde(with = "number")]
    pub noise: f64,
    /// What is won without its error: decibels of SQNR, the mean over outputs and their slices; negative where other
    /// errors make up for it.
    #[serde(with = "number")]
    pub gain_db: f64,
    /// False where both figures are first-order estimates: then `alone` and `rescued` are absent.
    pub is_exact: bool,
    /// `noise` as it was estimated; absent where no estimate was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_noise: Option<f64>,
    /// `gain_db` as it was estimated; absent where no estimate was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_gain_db: Option<f64>,
}

/// Whether the errors of units add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Additivity {
    /// The sum of what all units do alone, over what they do together: 1 where errors just add up.
    #[serde(with = "number")]
    pub explained: f64,
    /// The noise of everything quantized, as that of a unit.
    #[serde(with = "number")]
    pub noise: f64,
    /// The SQNR of everything quantized in dB, the mean over outputs and their slices.
    #[serde(with = "number")]
    pub sqnr_db: f64,
    /// Samples that `alone` and `rescued` were measured on.
    pub n_samples: usize,
    /// The rank correlation (Spearman) of estimated and measured noise, over the units of which both are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_correlation: Option<f64>,
    /// Units that do more, or less, together than each by itself, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
}

/// Two units that interact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The value of the earlier one.
    pub first: String,
    /// The value of the later one.
    pub second: String,
    /// How much more noise both make together, relative to the sum; negative where they make up for each other.
    #[serde(with = "number")]
    pub excess: f64,
}

/// One part of a unit's local error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// `weight_rounding`, `weight_clipping`, `weight_spread` (one scale for channels of different size), `weight_axis`
    /// (scales along another axis), `weight_values` (not those of the float model), `dead_channels`, `bias`, `input_rounding`, `input_clipping`, `output_rounding`,
    /// `output_clipping`, `output_spread` (a few channels stretch the range), `range_exceeded` (a little outside of what was calibrated),
    /// `zero_point` (a range beside the values), `requantize`, `lut`, `fp16_rounding`, `fp16_overflow`, `fp16_underflow`, `computation` (other nodes than the float model has), `residual`; of the entire error `inherited`.
    pub source: String,
    /// The part of the local error's energy, 0 to 1.
    #[serde(with = "number")]
    pub share: f64,
    /// What of this share plain ranges, a scale for each channel or another precision would avoid.
    #[serde(default, with = "number")]
    pub avoidable: f64,
    /// The local error with this source alone.
    #[serde(with = "number")]
    pub sqnr_db: f64,
    /// Which channels, samples, elements.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// One rewrite of a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The pass.
    pub pass: String,
    /// What it did to the value.
    pub change: String,
}

/// One network output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The shape of the first sample.
    pub shape: Vec<usize>,
    /// All of the tested values are 0 and some golden value is not.
    #[serde(default)]
    pub dead: bool,
    /// Why there are no numbers; absent where there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Errors of the simulated target against the golden run.
    #[serde(default)]
    pub views: Views,
    /// How many answers changed, where the output looks like scores of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
    /// The samples with the largest errors by `sqnr_db` of `entire`, the worst first; only where there are several samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_samples: Vec<WorstSample>,
    /// Errors of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeViews>,
    /// Parts that mean different things (boxes, scores), each judged by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// Indices `start..end` of `axis` of an output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The axis, not negative.
    pub axis: usize,
    /// The first index.
    pub start: usize,
    /// The index after the last.
    pub end: usize,
    /// What the slice is, `scores` or the name of the value it was joined from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// All of the tested values are 0 and some golden value is not.
    #[serde(default)]
    pub dead: bool,
    /// Errors of the simulated target against the golden run.
    #[serde(default)]
    pub views: Views,
    /// How many answers changed, where the slice looks like scores of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
}

/// One sample and its error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorstSample {
    /// Which sample, from 0.
    pub index: usize,
    /// Its file, where that holds no other sample; told at network outputs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its error in dB.
    #[serde(with = "number")]
    pub sqnr_db: f64,
}

/// Answers of the golden and of the tested scores side by side. A decision is a class at one position of one sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    /// The axis of the classes.
    pub axis: usize,
    /// Decisions that were compared.
    pub n: u64,
    /// Decisions whose class with the largest score changed.
    pub top1: u64,
    /// Decisions whose golden class is not among the five largest any more; absent for five classes or fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<u64>,
    /// Tested minus golden score of the golden class, the mean over decisions.
    #[serde(with = "number")]
    pub mean_score_shift: f64,
}

/// How often the answers are right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The task, `top1`.
    pub task: String,
    /// The output that was read.
    pub output: String,
    /// Where the labels come from.
    pub labels: String,
    /// One for each precision, `float` first.
    pub scores: Vec<PrecisionScore>,
}

/// How well one precision did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrecisionScore {
    /// `float`, then `int8`, `fp16`, `w4a16` or `w8a16`.
    pub precision: String,
    /// Right answers by metric of the task.
    pub metrics: BTreeMap<String, Share>,
    /// Answers that are those of float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Share>,
}

/// Successes among trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// The lower end of its 95% interval (Wilson).
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Successes.
    pub n_hits: usize,
    /// Trials.
    pub n: usize,
}

/// How bad a finding is; the worst is the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The model does not do its work.
    Error,
    /// Accuracy is lost.
    Warning,
    /// Worth knowing.
    #[default]
    Info,
}

impl Severity {
    /// The name that reports print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that found it.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// The value it is about; absent where it is about the whole model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// The numbers that show it.
    pub evidence: String,
    /// What to do.
    pub fix: String,
    /// What it costs at the network outputs: decibels of SQNR that are won without it; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_db: Option<f64>,
    /// What `analyze --fix` tries; absent where only the user can do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What that brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Tried>,
}

/// A fix that was made and run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Its number for `--apply`, from 1.
    pub number: usize,
    /// The SQNR in dB before, the mean over outputs and their slices.
    #[serde(with = "number")]
    pub before_db: f64,
    /// The same after.
    #[serde(with = "number")]
    pub after_db: f64,
    /// The difference.
    #[serde(with = "number")]
    pub gain_db: f64,
    /// The worst output, or slice of one, before.
    #[serde(with = "number")]
    pub worst_before_db: f64,
    /// The same after.
    #[serde(with = "number")]
    pub worst_after_db: f64,
    /// The part of all multiply-accumulates that it takes out of the integers, 0 to 1.
    #[serde(with = "number")]
    pub cost: f64,
}

/// An edit of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// Another range for a value.
    SetRange {
        /// The value.
        value: String,
        /// The smallest and the largest number it has to hold.
        #[serde(flatten)]
        range: ValueRange,
    },
    /// Scales of the whole range for the weights of the unit that writes a value.
    RefitWeights {
        /// The value.
        value: String,
        /// One scale for each output channel.
        per_channel: bool,
    },
    /// Another precision for a value.
    SetPrecision {
        /// The value.
        value: String,
        /// `fp16` or `float`.
        precision: String,
    },
    /// The whole network quantized again, on the samples of the calibration.
    Requantize {
        /// How ranges are found.
        algorithm: String,
        /// Which passes run.
        optimization_level: u8,
    },
    /// The members of a Concat brought to one magnitude, and back after it.
    RescaleConcat {
        /// The output of the Concat.
        value: String,
    },
}

/// One limit that the user set, and what the report says of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// The limit as it was given, `local.cosine=0.99`.
    pub gate: String,
    /// True if it was kept.
    pub passed: bool,
    /// The worst figure.
    #[serde(with = "number")]
    pub worst: f64,
    /// Where the worst figure is, `output "y"`.
    pub place: String,
    /// The whole in one sentence.
    pub words: String,
}

/// A value that has no row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// The value.
    pub name: String,
    /// The operator that produces it.
    pub op_type: String,
    /// Why, `integer value`.
    pub reason: String,
}

/// What one precision costs. A figure that is absent has its `reason`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// `float32`, `float16`, `int8`.
    pub precision: String,
    /// Bytes of the model file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size_bytes: Option<u64>,
    /// Bytes of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// The most bytes of activations alive at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_activation_bytes: Option<u64>,
    /// Milliseconds of one run at batch 1, the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// What `latency_ms` was measured on: the CPU's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why a figure is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the time went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From start to report.
    pub total_seconds: f64,
    /// The parts, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
}

/// One part of the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `load`, `calibrate`, `analyze`, `estimate` (of alone and rescued), `effects` (the same measured, and causes), ..
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// A metric over all samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// The figure that stands for all samples, reduced as the metric says: mean, pooled or worst.
    #[serde(with = "number")]
    pub value: f64,
    /// The mean over samples.
    #[serde(with = "number")]
    pub mean: f64,
    /// The smallest sample.
    #[serde(with = "number")]
    pub min: f64,
    /// The largest sample.
    #[serde(with = "number")]
    pub max: f64,
    /// The standard deviation of the finite samples (divided by their number, not one less).
    #[serde(with = "number")]
    pub std: f64,
    /// Samples that have at least one element to compare.
    pub n: u64,
    /// The lower end of the 95% confidence interval of `mean` (Student's t); absent for fewer than two samples, and where one
    /// is infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_low: Option<f64>,
    /// The upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_high: Option<f64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A number in JSON; NaN and the infinities, which JSON does not have, are the strings `NaN`, `inf`, `-inf`.
mod number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() {
            serializer.serialize_f64(*x)
        } else {
            serializer.collect_str(x)
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Name(String),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Number::deserialize(deserializer)? {
            Number::Finite(x) => Ok(x),
            Number::Name(name) => match name.as_str() {
                "NaN" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom(format!(
                    "wrong number, expected a number, \"NaN\", \"inf\" or \"-inf\", got \"{name}\""
                ))),
            },
        }
    }
}

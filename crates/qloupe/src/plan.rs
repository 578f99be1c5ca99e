//! The quantization plan: what precision every value and weight has, in plain data that a person can edit.

mod build;
mod constants;
mod edit;
mod file;
mod raise;
mod text;
mod weights;

use std::collections::BTreeMap;

use qloupe_exec::{Cast, Form};
use qloupe_tensor::{DType, QuantParams, Range, Tensor};

use crate::passes::{Rescale, Scaling, Shift};
use crate::targets::Target;

pub use build::{PlanOptions, build_plan};
pub use constants::{PlanArrays, constants_path, write_plan};
pub use file::{PlanHead, ScaleArray, parse_plan, read_head};
pub use raise::real_precision;
pub use text::format_plan;
pub(crate) use weights::{fit_biases, n_shared_scales, per_channel_params, plan_weights, whole_range_params};

/// Which elements of a weight share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One scale for each output channel and each block of input channels, where the target has blocks.
    Block,
    /// One scale for each output channel.
    Channel,
    /// One scale for the tensor.
    Layer,
}

impl Method {
    /// Every method, by name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("block", Self::Block),
        ("channel", Self::Channel),
        ("layer", Self::Layer),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, method)| *method == self)
            .map_or("", |(name, _)| name)
    }

    /// The method of a name.
    ///
    /// # Errors
    /// [`crate::Error::UnknownChoice`] with all names.
    pub fn parse(name: &str) -> Result<Self, crate::Error> {
        let found = Self::ALL
            .iter()
            .find(|(id, _)| *id == name)
            .map(|(_, method)| *method);
        found.ok_or_else(|| crate::Error::unknown_choice("method", name, Self::ALL.iter().map(|(id, _)| *id)))
    }

    /// The method that was asked for, or that of the target.
    ///
    /// # Errors
    /// [`crate::Error::Options`]: blocks for a target that has none.
    pub fn for_target(given: Option<Self>, target: &Target) -> Result<Self, crate::Error> {
        let method = given.unwrap_or_else(|| target.default_method());
        if method == Self::Block && target.weight_block.is_none() {
            return Err(crate::Error::Options(format!(
                "method block with target {} is not supported, expected channel or layer",
                target.id
            )));
        }
        Ok(method)
    }
}

/// The precision of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Precision {
    /// Integers with these parameters.
    Quantized(QuantParams),
    /// The same integers as another value (a Reshape, a MaxPool).
    SharedWith(String),
    /// float16, of a unit with integer weights of this type.
    WeightOnly(DType),
    /// float16; the reason where the target demands it.
    Fp16 {
        /// Why.
        reason: String,
    },
    /// float32; the reason where the target demands it.
    Float {
        /// Why.
        reason: String,
    },
}

/// What a plan calls float16 values of units with integer weights, by the type of these.
const WEIGHT_ONLY: &[(&str, DType)] = &[("w4a16", DType::Int4), ("w8a16", DType::Int8)];

/// The word for float16 values of units with integer weights of a type; `None` where no target has it.
pub fn weight_only_word(dtype: DType) -> Option<&'static str> {
    WEIGHT_ONLY
        .iter()
        .find(|(_, known)| *known == dtype)
        .map(|(word, _)| *word)
}

/// The type of the weights of a word.
pub(crate) fn weight_only_dtype(word: &str) -> Option<DType> {
    WEIGHT_ONLY
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, dtype)| *dtype)
}

/// The word for the precision of a value that travels in a form: `int8`, `w4a16`, `fp16`, `float`.
pub fn precision_word(value: &ValuePlan, form: Option<&Form>) -> &'static str {
    match (&value.precision, form) {
        (Precision::WeightOnly(dtype), _) => weight_only_word(*dtype).unwrap_or("fp16"),
        (_, Some(Form::Quantized(params))) => params.dtype().name(),
        (_, Some(Form::Fp16 { .. })) => "fp16",
        _ => "float",
    }
}

/// What the plan says about a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValuePlan {
    /// The value.
    pub name: String,
    /// The operators of the unit that produces it, `Conv+Relu`; `Input` for a network input.
    pub unit: String,
    /// Its precision.
    pub precision: Precision,
    /// How integer units read it when it is not integer itself.
    pub cast: Option<Cast>,
    /// The range that was calibrated.
    pub range: Option<Range>,
    /// How its range was chosen where algorithms competed: the winner first, each with its noise at the consumers.
    pub chosen: String,
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassRecord {
    /// The pass.
    pub pass: String,
    /// False where it was undone because it did not help.
    pub kept: bool,
    /// What it was judged by.
    pub evidence: String,
}

/// What the plan says about a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightPlan {
    /// The constant.
    pub name: String,
    /// Its parameters.
    pub params: QuantParams,
    /// What was special about its channels (`3 channels all_zero`), or nothing.
    pub outcome: String,
}

/// What the race of algorithms and the passes did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Optimized {
    /// How whole plans of single algorithms compared with the ranges that were chosen value by value; empty without a race.
    pub race: String,
    /// The passes that ran.
    pub passes: Vec<PassRecord>,
    /// Concats whose members were brought to one magnitude.
    pub rescales: Vec<Rescale>,
    /// Values that are scaled channel by channel.
    pub scalings: Vec<Scaling>,
    /// Values from which a constant of each channel is taken away, after they are scaled.
    pub shifts: Vec<Shift>,
    /// Constants that passes changed: weights on their grid, biases.
    pub constants: BTreeMap<String, Tensor>,
    /// Biases of nodes that had none: the output of the node to the constant.
    pub new_biases: BTreeMap<String, String>,
}

/// The quantization plan of one model for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantPlan {
    /// The target.
    pub target: String,
    /// The calibration algorithm.
    pub algorithm: String,
    /// `block`, `channel` or `layer`.
    pub method: Method,
    /// 0 changes no weight and no value; docs/QUANTIZER.md lists what each level runs.
    pub optimization_level: u8,
    /// How many samples were calibrated on.
    pub n_samples: usize,
    /// Network inputs and unit outputs, in execution order.
    pub values: Vec<ValuePlan>,
    /// Quantized weights, in execution order.
    pub weights: Vec<WeightPlan>,
    /// What the race of algorithms and the passes did.
    pub optimized: Optimized,
}

impl QuantPlan {
    /// The entry of a value.
    pub fn value(&self, name: &str) -> Option<&ValuePlan> {
        self.values.iter().find(|v| v.name == name)
    }

    /// The plan in a few numbers.
    pub fn summary(&self) -> crate::report::PlanSummary {
        let forms = self.forms();
        let count = |wanted: fn(&Form) -> bool| forms.values().filter(|form| wanted(form)).count();
        crate::report::PlanSummary {
            algorithm: self.algorithm.clone(),
            method: self.method.name().to_owned(),
            optimization_level: self.optimization_level,
            n_quantized: count(|f| matches!(f, Form::Quantized(_))),
            n_fp16: count(|f| matches!(f, Form::Fp16 { .. })),
            n_float: count(|f| matches!(f, Form::Float { .. })),
            file: None,
        }
    }

    /// The type of the weights of units that compute in float16 with integer weights, and how many units these are.
    pub fn weight_only(&self) -> Option<(DType, usize)> {
        let dtypes = self.values.iter().filter_map(|value| match value.precision {
            Precision::WeightOnly(dtype) => Some(dtype),
            _ => None,
        });
        dtypes.fold(None, |known, dtype| {
            Some((dtype, known.map_or(1, |(_, n)| n + 1)))
        })
    }

    /// How many values have which type: `22 values in int8, 1 in float16, 0 in float32`.
    pub fn counts_in_words(&self) -> String {
        let summary = self.summary();
        if let Some((dtype, n)) = self.weight_only() {
            return format!(
                "{} values in float16, {n} of them of {dtype} weights, {} in float32",
                summary.n_fp16, summary.n_float
            );
        }
        let integers = self.forms().into_values().find_map(|form| match form {
            Form::Quantized(params) => Some(params.dtype()),
            _ => None,
        });
        format!(
            "{} values in {}, {} in float16, {} in float32",
            summary.n_quantized,
            integers.unwrap_or(DType::Int8),
            summary.n_fp16,
            summary.n_float
        )
    }

    /// The form of every value: shared ones resolved.
    pub fn forms(&self) -> BTreeMap<String, Form> {
        let by_name: BTreeMap<&str, &ValuePlan> = self.values.iter().map(|v| (v.name.as_str(), v)).collect();
        self.values
            .iter()
            .map(|v| (v.name.clone(), resolve(v, &by_name)))
            .collect()
    }
}

fn resolve(value: &ValuePlan, by_name: &BTreeMap<&str, &ValuePlan>) -> Form {
    let mut at = value;
    // A chain of shared values is as long as the plan at most: a cycle in an edited file ends there.
    for _ in 0..by_name.len() {
        match &at.precision {
            Precision::SharedWith(other) => match by_name.get(other.as_str()) {
                Some(next) => at = next,
                None => break,
            },
            Precision::Quantized(params) => return Form::Quantized(params.clone()),
            Precision::WeightOnly(_) | Precision::Fp16 { .. } => {
                return Form::Fp16 {
                    cast: at.cast.clone(),
                };
            }
            Precision::Float { .. } => {
                return Form::Float {
                    cast: at.cast.clone(),
                };
            }
        }
    }
    Form::FLOAT
}

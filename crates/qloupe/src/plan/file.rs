//! The plan file: TOML, one line for each value, made to be edited by hand. The whole schema is here, hence the length.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Cast;
use qloupe_ir::suggestion;
use qloupe_tensor::{DType, Granularity, QuantParams, Range};
use serde::Deserialize;

use super::{
    Method, Optimized, PassRecord, PlanArrays, Precision, QuantPlan, ValuePlan, WeightPlan, weight_only_dtype,
};
use crate::Error;
use crate::passes::{Rescale, Scaling, Shift};
use crate::targets::Target;

/// The value of `schema` in a plan file.
pub(super) const SCHEMA: &str = "qloupe-plan/1";

/// The precisions that a hand may write.
const PRECISIONS: &[&str] = &[
    "int8", "uint8", "int16", "uint16", "w4a16", "w8a16", "fp16", "float",
];

const MAX_OPTIMIZATION_LEVEL: u8 = 3;

/// A power of two beyond this leaves the range of float32.
const MAX_EXPONENT: i32 = 120;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    schema: String,
    target: String,
    algorithm: String,
    method: String,
    optimization_level: u8,
    n_samples: usize,
    race: Option<String>,
    constants: Option<String>,
    #[serde(default)]
    passes: Vec<PassEntry>,
    #[serde(default)]
    rescales: Vec<RescaleEntry>,
    #[serde(default)]
    scalings: Vec<ScalingEntry>,
    #[serde(default)]
    shifts: Vec<ShiftEntry>,
    #[serde(default)]
    new_biases: BTreeMap<String, String>,
    #[serde(default)]
    values: BTreeMap<String, ValueEntry>,
    #[serde(default)]
    weights: BTreeMap<String, WeightEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassEntry {
    name: String,
    kept: bool,
    evidence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RescaleEntry {
    value: String,
    axis: usize,
    rank: usize,
    sizes: Vec<usize>,
    exponents: Vec<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScalingEntry {
    pass: String,
    values: Vec<String>,
    axis: usize,
    scale: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShiftEntry {
    pass: String,
    values: Vec<String>,
    shift: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueEntry {
    unit: Option<String>,
    precision: Option<String>,
    shared_with: Option<String>,
    reason: Option<String>,
    axis: Option<usize>,
    scale: Option<Numbers<f32>>,
    zero_point: Option<Numbers<i32>>,
    dtype: Option<String>,
    dynamic: Option<String>,
    min: Option<f32>,
    max: Option<f32>,
    chosen: Option<String>,
}

impl PassEntry {
    fn into_record(self) -> PassRecord {
        PassRecord {
            pass: self.name,
            kept: self.kept,
            evidence: self.evidence,
        }
    }
}

impl RescaleEntry {
    fn into_rescale(self) -> Result<Rescale, String> {
        let fits = self.axis < self.rank && self.sizes.len() == self.exponents.len();
        if !fits
            || self
                .exponents
                .iter()
                .any(|exponent| exponent.abs() > MAX_EXPONENT)
        {
            return Err(format!(
                "rescale of \"{}\": expected an axis below the rank, as many sizes as exponents, and exponents of at most \
                 {MAX_EXPONENT}",
                self.value
            ));
        }
        Ok(Rescale {
            value: self.value,
            axis: self.axis,
            rank: self.rank,
            sizes: self.sizes,
            exponents: self.exponents,
        })
    }
}

impl ScalingEntry {
    fn into_scaling(self) -> Result<Scaling, String> {
        let is_wrong = |s: &f32| !(s.is_finite() && *s > 0.0 && s.recip().is_finite());
        if self.scale.is_empty() || self.scale.iter().any(is_wrong) {
            return Err(format!(
                "scaling of {:?}: expected positive, finite scales, one for each channel",
                self.values
            ));
        }
        Ok(Scaling {
            pass: self.pass,
            values: self.values,
            axis: self.axis,
            scale: self.scale,
        })
    }
}

impl ShiftEntry {
    fn into_shift(self) -> Result<Shift, String> {
        if self.shift.is_empty() || self.shift.iter().any(|t| !t.is_finite()) {
            return Err(format!(
                "shift of {:?}: expected finite numbers, one for each channel",
                self.values
            ));
        }
        Ok(Shift {
            pass: self.pass,
            values: self.values,
            shift: self.shift,
        })
    }
}

/// One number, or one for each index of an axis.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Numbers<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Numbers<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(number) => vec![number],
            Self::Many(numbers) => numbers,
        }
    }
}

/// The scales of a weight: numbers, or the name of an array in the file beside the plan.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scales {
    Numbers(Vec<f32>),
    Array(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightEntry {
    dtype: String,
    axis: Option<usize>,
    block_size: Option<usize>,
    scale: Scales,
    zero_point: Option<Vec<i32>>,
    #[serde(default)]
    outcome: String,
}

impl WeightEntry {
    fn granularity(&self, name: &str) -> Result<Granularity, String> {
        match (self.axis, self.block_size) {
            (None, None) => Ok(Granularity::PerTensor),
            (Some(axis), None) => Ok(Granularity::PerChannel { axis }),
            (Some(axis), Some(block_size)) => Ok(Granularity::PerBlock { axis, block_size }),
            (None, Some(_)) => Err(format!("weight \"{name}\": block_size needs an axis")),
        }
    }
}

/// An array that holds the scales of a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleArray {
    /// The weight.
    pub weight: String,
    /// The array in the file beside the plan.
    pub array: String,
    /// Which elements share a scale.
    pub granularity: Granularity,
}

/// What a plan says of how the graph must be prepared, before its names can be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanHead {
    /// The target.
    pub target: String,
    /// The optimization level.
    pub optimization_level: u8,
    /// The name of the file beside the plan that holds arrays.
    pub constants: Option<String>,
    /// Scales that are in that file.
    pub scales: Vec<ScaleArray>,
    /// Concats that are rescaled.
    pub rescales: Vec<Rescale>,
    /// Values that are scaled.
    pub scalings: Vec<Scaling>,
    /// Values that are shifted.
    pub shifts: Vec<Shift>,
}

/// Reads the head of a plan.
///
/// # Errors
/// As [`parse_plan`].
pub fn read_head(file: &str, text: &str) -> Result<PlanHead, Error> {
    let read = read_file(file, text)?;
    let wrong = |what: String| Error::Plan {
        file: file.to_owned(),
        what,
    };
    let rescales = read.rescales.into_iter().map(RescaleEntry::into_rescale);
    let rescales = rescales.collect::<Result<_, String>>().map_err(wrong)?;
    let scalings = read.scalings.into_iter().map(ScalingEntry::into_scaling);
    let scalings = scalings.collect::<Result<_, String>>().map_err(wrong)?;
    let shifts = read.shifts.into_iter().map(ShiftEntry::into_shift);
    let shifts = shifts.collect::<Result<_, String>>().map_err(wrong)?;
    let mut scales = Vec::new();
    for (weight, entry) in read.weights {
        let granularity = entry.granularity(&weight).map_err(wrong)?;
        if let Scales::Array(array) = entry.scale {
            scales.push(ScaleArray {
                weight,
                array,
                granularity,
            });
        }
    }
    Ok(PlanHead {
        scales,
        rescales,
        scalings,
        shifts,
        target: read.target,
        optimization_level: read.optimization_level,
        constants: read.constants,
    })
}

fn read_file(file: &str, text: &str) -> Result<PlanFile, Error> {
    let wrong = |what: String| Error::Plan {
        file: file.to_owned(),
        what,
    };
    let read: PlanFile = toml::from_str(text).map_err(|error| {
        let end = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..end]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        wrong(format!(
            "line {line}: {}",
            error.message().lines().collect::<Vec<_>>().join(", ")
        ))
    })?;
    if read.schema != SCHEMA {
        return Err(wrong(format!(
            "wrong schema, expected \"{SCHEMA}\", got \"{}\"",
            read.schema
        )));
    }
    crate::targets::find(&read.target).map_err(|e| wrong(e.to_string()))?;
    if read.optimization_level > MAX_OPTIMIZATION_LEVEL {
        let level = read.optimization_level;
        return Err(wrong(format!(
            "wrong optimization_level, expected 0 to {MAX_OPTIMIZATION_LEVEL}, got {level}"
        )));
    }
    Ok(read)
}

/// Reads a plan, without the constants beside it. `values` and `weights` are those of the model, in execution order: other names are
/// refused. `arrays` has the scales that the text leaves to it.
///
/// # Errors
/// [`Error::Plan`] with the file and what is wrong: syntax, an unknown value (the nearest is suggested), a precision
/// that does not exist, a scale that is missing or not positive.
pub fn parse_plan(
    file: &str,
    text: &str,
    values: &[String],
    weights: &[String],
    arrays: &PlanArrays,
) -> Result<QuantPlan, Error> {
    let wrong = |what: String| Error::Plan {
        file: file.to_owned(),
        what,
    };
    let read = read_file(file, text)?;
    let target = crate::targets::find(&read.target)?;
    let method = Method::parse(&read.method).and_then(|method| Method::for_target(Some(method), target));
    let method = method.map_err(|e| wrong(e.to_string()))?;
    let unknown = |kind: &str, name: &String, known: &[String]| {
        let help = suggestion(name, known.iter().map(String::as_str));
        wrong(format!("{kind} \"{name}\" does not exist in the model{help}"))
    };
    let known_values: BTreeSet<&str> = values.iter().map(String::as_str).collect();
    let known_weights: BTreeSet<&str> = weights.iter().map(String::as_str).collect();
    if let Some(name) = read
        .values
        .keys()
        .find(|name| !known_values.contains(name.as_str()))
    {
        return Err(unknown("value", name, values));
    }
    if let Some(name) = read
        .weights
        .keys()
        .find(|name| !known_weights.contains(name.as_str()))
    {
        return Err(unknown("weight", name, weights));
    }
    let context = Context {
        default: target.activation.map_or(DType::Int8, |scheme| scheme.dtype),
        target,
        names: &known_values,
    };
    let (mut value_entries, mut weight_entries) = (read.values, read.weights);
    let value_plans = values
        .iter()
        .filter_map(|name| Some((name, value_entries.remove(name)?)));
    let value_plans = value_plans
        .map(|(name, entry)| value_plan(name, entry, &context))
        .collect::<Result<_, _>>();
    let weight_plans = weights
        .iter()
        .filter_map(|name| Some((name, weight_entries.remove(name)?)));
    let weight_plans = weight_plans
        .map(|(name, entry)| weight_plan(name, entry, arrays))
        .collect::<Result<_, _>>();
    let value_plans: Vec<ValuePlan> = value_plans.map_err(wrong)?;
    if let Some(name) = without_precision(&value_plans) {
        return Err(wrong(format!(
            "value \"{name}\": shared_with leads to no precision, expected a value that has one"
        )));
    }
    Ok(QuantPlan {
        target: read.target,
        algorithm: read.algorithm,
        method,
        optimization_level: read.optimization_level,
        n_samples: read.n_samples,
        values: value_plans,
        weights: weight_plans.map_err(wrong)?,
        optimized: Optimized {
            race: read.race.unwrap_or_default(),
            passes: read.passes.into_iter().map(PassEntry::into_record).collect(),
            rescales: Vec::new(),
            scalings: Vec::new(),
            shifts: Vec::new(),
            constants: BTreeMap::new(),
            new_biases: read.new_biases,
        },
    })
}

/// A value whose `shared_with` never arrives at a value with a precision: a circle, or a line that was deleted.
fn without_precision(values: &[ValuePlan]) -> Option<&str> {
    let by_name: BTreeMap<&str, &Precision> =
        values.iter().map(|v| (v.name.as_str(), &v.precision)).collect();
    // Values that are known to arrive, so that no chain is followed twice.
    let mut arriving: BTreeSet<&str> = BTreeSet::new();
    by_name.keys().copied().find(|&name| {
        let mut passed = BTreeSet::new();
        let mut at = name;
        while !arriving.contains(at) {
            match by_name.get(at) {
                Some(Precision::SharedWith(source)) if passed.insert(at) => at = source,
                None | Some(Precision::SharedWith(_)) => return true,
                Some(_) => break,
            }
        }
        arriving.extend(passed);
        false
    })
}

/// What the line of a value is read with.
struct Context<'a> {
    target: &'static Target,
    /// The dtype of a cast that names none.
    default: DType,
    /// The values of the model.
    names: &'a BTreeSet<&'a str>,
}

fn value_plan(name: &str, entry: ValueEntry, context: &Context<'_>) -> Result<ValuePlan, String> {
    let (default, values) = (context.default, context.names);
    let params = |dtype: DType| -> Result<QuantParams, String> {
        let (Some(scale), Some(zero_point)) = (entry.scale.clone(), entry.zero_point.clone()) else {
            return Err(format!(
                "value \"{name}\" is {dtype}: scale and zero_point are missing"
            ));
        };
        let granularity = entry
            .axis
            .map_or(Granularity::PerTensor, |axis| Granularity::PerChannel { axis });
        QuantParams::new(dtype, granularity, scale.into_vec(), zero_point.into_vec())
            .map_err(|e| format!("value \"{name}\": {e}"))
    };
    let cast_dtype = match &entry.dtype {
        Some(dtype) => {
            DType::from_name(dtype).ok_or_else(|| format!("value \"{name}\": unknown dtype \"{dtype}\""))?
        }
        None => default,
    };
    let reason = entry.reason.clone().unwrap_or_else(|| "set by hand".to_owned());
    let cast = || match (&entry.dynamic, &entry.scale) {
        (Some(dtype), None) if dtype == DType::UInt8.name() => Ok(Some(Cast::Dynamic)),
        (Some(dtype), None) => Err(format!(
            "value \"{name}\": unknown dynamic dtype, expected \"uint8\", got \"{dtype}\""
        )),
        (Some(_), Some(_)) => Err(format!(
            "value \"{name}\": a value with `dynamic` has no scale of its own, expected one of them, got both"
        )),
        (None, Some(_)) => params(cast_dtype).map(|params| Some(Cast::Fixed(params))),
        (None, None) => Ok(None),
    };
    let choices = PRECISIONS.join(", ");
    let (precision, cast) = match (entry.precision.as_deref(), &entry.shared_with) {
        (Some("int8"), _) => (Precision::Quantized(params(DType::Int8)?), None),
        (Some("int16"), _) => (Precision::Quantized(params(DType::Int16)?), None),
        (Some("uint8"), _) => (Precision::Quantized(params(DType::UInt8)?), None),
        (Some("uint16"), _) => (Precision::Quantized(params(DType::UInt16)?), None),
        (Some(word), _) if weight_only_dtype(word).is_some() => {
            let dtype = weight_only_dtype(word).filter(|dtype| context.target.has_only_weights_in(*dtype));
            let dtype = dtype.ok_or_else(|| {
                let id = context.target.id;
                format!(
                    "value \"{name}\": precision {word} is not one of target {id}, expected fp16 or float"
                )
            })?;
            (Precision::WeightOnly(dtype), None)
        }
        (Some("fp16"), _) => (Precision::Fp16 { reason }, cast()?),
        (Some("float"), _) => (Precision::Float { reason }, cast()?),
        (Some(other), _) => {
            let unknown = Error::unknown_choice("precision", other, PRECISIONS.iter().copied());
            return Err(format!("value \"{name}\": {unknown}"));
        }
        (None, Some(source)) if values.contains(source.as_str()) => {
            (Precision::SharedWith(source.clone()), None)
        }
        (None, Some(source)) => {
            let help = suggestion(source, values.iter().copied());
            return Err(format!(
                "value \"{name}\": shared_with \"{source}\" does not exist in the model{help}"
            ));
        }
        (None, None) => {
            return Err(format!(
                "value \"{name}\": precision is missing, expected one of {choices}"
            ));
        }
    };
    let range = entry.min.zip(entry.max).map(|(min, max)| Range { min, max });
    Ok(ValuePlan {
        name: name.to_owned(),
        unit: entry.unit.unwrap_or_default(),
        precision,
        cast,
        range,
        chosen: entry.chosen.unwrap_or_default(),
    })
}

fn weight_plan(name: &str, entry: WeightEntry, arrays: &PlanArrays) -> Result<WeightPlan, String> {
    let unknown = || format!("weight \"{name}\": unknown dtype \"{}\"", entry.dtype);
    let dtype = DType::from_name(&entry.dtype).ok_or_else(unknown)?;
    let granularity = entry.granularity(name)?;
    let wrong = |what: String| format!("weight \"{name}\": {what}");
    let scale = match entry.scale {
        Scales::Numbers(scale) => scale,
        Scales::Array(array) => arrays.scales(&array).map_err(wrong)?,
    };
    let zero_point = entry.zero_point.unwrap_or_else(|| vec![0; scale.len()]);
    let params = QuantParams::new(dtype, granularity, scale, zero_point);
    Ok(WeightPlan {
        name: name.to_owned(),
        params: params.map_err(|e| wrong(e.to_string()))?,
        outcome: entry.outcome,
    })
}

#[cfg(test)]
mod tests;

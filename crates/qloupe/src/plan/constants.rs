//! The file beside a plan that holds arrays: an `.npz` of the constants which passes changed, and of the scales of blocks.
//!
//! A weight is stored as its integers under the scales of the plan, those of 4 bits as int8; a bias as float32.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qloupe_tensor::{
    DType, Granularity, Rounding, Tensor, decode_integer, dequantize_linear, quantize_linear,
};

use super::{PlanHead, QuantPlan, WeightPlan, format_plan};
use crate::Error;
use crate::array::{ArrayFile, Compression, write_npz};
use crate::write::write_atomically;

/// What the name of a weight is followed by in the name of its scales.
const SCALE_SUFFIX: &str = "_scale";

/// The file of the arrays of a plan: `model.int8.plan.toml` has `model.int8.plan.npz`.
pub fn constants_path(plan: &Path) -> PathBuf {
    plan.with_extension("npz")
}

/// Writes a plan, and the arrays that it needs to a file beside it.
///
/// # Errors
/// A path that cannot be written.
pub fn write_plan(path: &Path, plan: &QuantPlan) -> Result<(), Error> {
    let constants = constants_path(path);
    let mut name = None;
    let arrays = stored(plan)?;
    if !arrays.is_empty() {
        write_npz(&constants, &arrays, Compression::Deflated)?;
        name = constants
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
    }
    Ok(write_atomically(
        path,
        format_plan(plan, name.as_deref()).as_bytes(),
    )?)
}

/// The array that holds the scales of a weight; `None` where the text of the plan has them.
pub(super) fn scale_array(weight: &WeightPlan) -> Option<String> {
    let in_blocks = matches!(weight.params.granularity(), Granularity::PerBlock { .. });
    in_blocks.then(|| format!("{}{SCALE_SUFFIX}", weight.name))
}

fn stored(plan: &QuantPlan) -> Result<Vec<(String, Tensor)>, Error> {
    let store = |(name, tensor): (&String, &Tensor)| {
        let weight = plan.weights.iter().find(|weight| weight.name == *name);
        let tensor = match weight {
            Some(weight) => in_bytes(quantize_linear(tensor, &weight.params, Rounding::TiesEven)?)?,
            None => tensor.clone(),
        };
        Ok((name.clone(), tensor))
    };
    let mut arrays: Vec<(String, Tensor)> = plan
        .optimized
        .constants
        .iter()
        .map(store)
        .collect::<Result<_, Error>>()?;
    for weight in &plan.weights {
        let scale = || Tensor::vector(weight.params.scale().to_vec());
        arrays.extend(scale_array(weight).map(|name| (name, scale())));
    }
    Ok(arrays)
}

/// Integers of 4 bits as int8, which an `.npz` can hold; others as they are.
fn in_bytes(integers: Tensor) -> Result<Tensor, Error> {
    let dtype = integers.dtype();
    let Some(codes) = integers.codes() else {
        return Ok(integers);
    };
    let integers_of = codes.iter().filter_map(|&code| decode_integer(dtype, code));
    Ok(Tensor::new(integers.shape(), integers_of.collect::<Vec<i8>>())?)
}

/// Integers of a dtype out of what [`in_bytes`] made of them.
fn from_bytes(stored: Tensor, dtype: DType) -> Result<Tensor, String> {
    let (Some(integers), true) = (
        stored.as_slice::<i8>(),
        dtype.size_bits() < DType::Int8.size_bits(),
    ) else {
        return Ok(stored);
    };
    let (min, max) = dtype.integer_range().unwrap_or_default();
    if let Some(outside) = integers.iter().find(|&&q| !(min..=max).contains(&i64::from(q))) {
        return Err(format!("an element is {outside}, expected {min} to {max}"));
    }
    let codes = integers.iter().map(|q| q.cast_unsigned()).collect();
    Tensor::from_codes(dtype, stored.shape(), codes).map_err(|e| e.to_string())
}

/// The arrays beside a plan that is read.
#[derive(Debug, Default)]
pub struct PlanArrays {
    file: Option<ArrayFile>,
}

impl PlanArrays {
    /// Opens the file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            file: Some(ArrayFile::open(path)?),
        })
    }

    fn wrong(&self, what: String) -> Error {
        let path = self.file.as_ref().map(|file| file.path().display().to_string());
        Error::Plan {
            file: path.unwrap_or_default(),
            what,
        }
    }

    /// Checks that the scales which a plan leaves to this file are there. `known` tells the shape of each constant of the model.
    ///
    /// # Errors
    /// An array that is missing, or that does not fit its weight.
    pub fn check_scales<'t>(
        &self,
        head: &PlanHead,
        known: impl Fn(&str) -> Option<&'t [usize]>,
    ) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        for scales in &head.scales {
            let Some(n) = known(&scales.weight).and_then(|shape| scales.granularity.n_scales(shape)) else {
                continue;
            };
            let of = format!(
                "array \"{}\" (scales of weight \"{}\")",
                scales.array, scales.weight
            );
            let Some(idx) = file.position(&scales.array) else {
                return Err(self.wrong(format!("{of} is missing, expected float32 of shape [{n}]")));
            };
            let info = &file.arrays()[idx];
            if info.shape != [n] || info.dtype != DType::Float32 {
                return Err(self.wrong(format!(
                    "{of} does not fit, expected float32 of shape [{n}], got {} of shape {:?}",
                    info.dtype, info.shape
                )));
            }
        }
        Ok(())
    }

    /// The scales of an array.
    ///
    /// # Errors
    /// No file, no such array, one that is not float32.
    pub(super) fn scales(&self, array: &str) -> Result<Vec<f32>, String> {
        let Some(file) = &self.file else {
            return Err(format!(
                "its scales are the array \"{array}\", expected `constants` with the file that has it"
            ));
        };
        let missing = || format!("the array \"{array}\" is not in {}", file.path().display());
        let tensor = file.read(file.position(array).ok_or_else(missing)?);
        let tensor = tensor.map_err(|e| e.to_string())?;
        tensor.into_vec::<f32>().map_err(|e| e.to_string())
    }

    /// The constants that the plan changes. `known` tells the shape of each constant of the model.
    ///
    /// # Errors
    /// A file that cannot be read; a constant that the model does not have, or that has another shape there.
    pub fn constants<'t>(
        &self,
        plan: &QuantPlan,
        known: impl Fn(&str) -> Option<&'t [usize]>,
    ) -> Result<BTreeMap<String, Tensor>, Error> {
        let Some(file) = &self.file else {
            return Ok(BTreeMap::new());
        };
        let scales: BTreeSet<String> = plan.weights.iter().filter_map(scale_array).collect();
        // The line of a weight may be gone, and its scales still here.
        let is_scale = |name: &str| {
            let of = name.strip_suffix(SCALE_SUFFIX);
            scales.contains(name) || (known(name).is_none() && of.is_some_and(|of| known(of).is_some()))
        };
        let mut constants = BTreeMap::new();
        for (idx, info) in file.arrays().iter().enumerate() {
            let name = &info.name;
            let is_new = plan.optimized.new_biases.values().any(|bias| bias == name);
            if is_scale(name) && !is_new {
                continue;
            }
            match known(name) {
                None if !is_new => {
                    return Err(self.wrong(format!("constant \"{name}\" does not exist in the model")));
                }
                Some(shape) if shape != info.shape => {
                    return Err(self.wrong(format!(
                        "constant \"{name}\" has the wrong shape, expected {shape:?}, got {:?}",
                        info.shape
                    )));
                }
                _ => {}
            }
            let tensor = file.read(idx)?;
            let weight = plan.weights.iter().find(|weight| weight.name == *name);
            let tensor = match weight {
                Some(weight) => from_bytes(tensor, weight.params.dtype())
                    .and_then(|q| dequantize_linear(&q, &weight.params).map_err(|e| e.to_string()))
                    .map_err(|what| self.wrong(format!("constant \"{name}\": {what}")))?,
                None => tensor,
            };
            if tensor.as_slice::<f32>().is_none() {
                let dtype = tensor.dtype();
                return Err(self.wrong(format!(
                    "constant \"{name}\" has the wrong dtype, expected float32, got {dtype}"
                )));
            }
            constants.insert(name.clone(), tensor);
        }
        Ok(constants)
    }
}

//! The file beside a plan that holds the constants which passes changed: an `.npz`.
//!
//! A weight is stored as its integers under the scales of the plan, a bias as float32.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qloupe_tensor::{Rounding, Tensor, dequantize_linear, quantize_linear};

use super::{QuantPlan, format_plan};
use crate::Error;
use crate::array::{ArrayFile, Compression, write_npz};
use crate::write::write_atomically;

/// The file of the constants of a plan: `model.int8.plan.toml` has `model.int8.plan.npz`.
pub fn constants_path(plan: &Path) -> PathBuf {
    plan.with_extension("npz")
}

/// Writes a plan, and the constants that it changes to a file beside it.
///
/// # Errors
/// A path that cannot be written.
pub fn write_plan(path: &Path, plan: &QuantPlan) -> Result<(), Error> {
    let constants = constants_path(path);
    let mut name = None;
    if !plan.optimized.constants.is_empty() {
        write_npz(&constants, &stored(plan)?, Compression::Deflated)?;
        name = constants
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
    }
    Ok(write_atomically(
        path,
        format_plan(plan, name.as_deref()).as_bytes(),
    )?)
}

fn stored(plan: &QuantPlan) -> Result<Vec<(String, Tensor)>, Error> {
    let store = |(name, tensor): (&String, &Tensor)| {
        let weight = plan.weights.iter().find(|weight| weight.name == *name);
        let tensor = match weight {
            Some(weight) => quantize_linear(tensor, &weight.params, Rounding::TiesEven)?,
            None => tensor.clone(),
        };
        Ok((name.clone(), tensor))
    };
    plan.optimized.constants.iter().map(store).collect()
}

/// Reads the constants of a plan. `known` tells the shape of each constant of the model.
///
/// # Errors
/// A file that cannot be read; a constant that the model does not have, or that has another shape there.
pub fn read_constants<'t>(
    path: &Path,
    plan: &QuantPlan,
    known: impl Fn(&str) -> Option<&'t [usize]>,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let wrong = |what: String| Error::Plan {
        file: path.display().to_string(),
        what,
    };
    let file = ArrayFile::open(path)?;
    let mut constants = BTreeMap::new();
    for (idx, info) in file.arrays().iter().enumerate() {
        let name = &info.name;
        let is_new = plan.optimized.new_biases.values().any(|bias| bias == name);
        match known(name) {
            None if !is_new => {
                return Err(wrong(format!("constant \"{name}\" does not exist in the model")));
            }
            Some(shape) if shape != info.shape => {
                return Err(wrong(format!(
                    "constant \"{name}\" has the wrong shape, expected {shape:?}, got {:?}",
                    info.shape
                )));
            }
            _ => {}
        }
        let tensor = file.read(idx)?;
        let weight = plan.weights.iter().find(|weight| weight.name == *name);
        let tensor = match weight {
            Some(weight) => dequantize_linear(&tensor, &weight.params)
                .map_err(|e| wrong(format!("constant \"{name}\": {e}")))?,
            None => tensor,
        };
        if tensor.as_slice::<f32>().is_none() {
            let dtype = tensor.dtype();
            return Err(wrong(format!(
                "constant \"{name}\" has the wrong dtype, expected float32, got {dtype}"
            )));
        }
        constants.insert(name.clone(), tensor);
    }
    Ok(constants)
}

//! One model with its preprocessing: what every command begins with.

use std::collections::BTreeMap;
use std::path::Path;

use qloupe_ir::{Dim, Model, ValueType, suggestion};
use qloupe_tensor::Tensor;

use crate::Error;
use crate::passes::resolve_branches::resolve_branches;
use crate::prepare::{Crop, Network, load_model};
use crate::recipe::Recipe;
use crate::samples::InputSpec;

/// A model, its golden program, and how its inputs are fed.
#[derive(Debug)]
pub struct Session {
    /// The network.
    pub network: Network,
    /// How each input is fed.
    pub inputs: Vec<InputSpec>,
}

impl Session {
    /// Reads a model, crops it, fixes open dimensions by `shapes`, and checks the recipe against it.
    ///
    /// # Errors
    /// Everything that can be wrong before a sample is read: the model, the crop, a shape that contradicts the model,
    /// the recipe, unsupported operators.
    pub fn open(
        path: &Path,
        crop: &Crop,
        shapes: &BTreeMap<String, Vec<usize>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        Self::of_model(
            path.display().to_string(),
            load_model(path, crop)?,
            shapes,
            recipe,
        )
    }

    /// As [`Session::open`], with a model that was read and cropped before; `file` is for messages.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn of_model(
        file: String,
        mut model: Model,
        shapes: &BTreeMap<String, Vec<usize>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        fix_shapes(&mut model, &file, shapes)?;
        resolve_branches(&mut model, &BTreeMap::new());
        let inputs = InputSpec::of_model(&model.graph.runtime_inputs(), recipe)?;
        let network = Network::new(file, model)?;
        Ok(Self { network, inputs })
    }

    /// Replaces the branches that samples of the shapes of `sample` always take by their nodes, so that they can be
    /// quantized. If there are any, samples of other shapes are refused from here on. One line for each.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn resolve_branches(&mut self, sample: &[(String, Tensor)]) -> Result<Vec<String>, Error> {
        let shape_of = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shape().to_vec());
        let shapes: BTreeMap<String, Vec<usize>> = sample.iter().map(shape_of).collect();
        let mut model = self.network.model.clone();
        let changes = resolve_branches(&mut model, &shapes);
        if !changes.is_empty() {
            fix_shapes(&mut model, &self.network.file, &shapes)?;
            self.network = Network::new(self.network.file.clone(), model)?;
        }
        Ok(changes)
    }
}

/// Declares the shapes that the user gave for inputs.
///
/// # Errors
/// A name that is no input (the nearest is suggested), a shape that contradicts the declared one.
pub fn fix_shapes(model: &mut Model, file: &str, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), Error> {
    for (name, shape) in shapes {
        let names: Vec<String> = model
            .graph
            .runtime_inputs()
            .iter()
            .map(|i| i.name.clone())
            .collect();
        let input = model
            .graph
            .inputs
            .iter_mut()
            .find(|i| i.name == *name && names.contains(name));
        let Some(ValueType::Tensor(ty)) = input.and_then(|i| i.ty.as_mut()) else {
            let help = suggestion(name, names.iter().map(String::as_str));
            return Err(Error::Options(format!(
                "--shape: {file} has no input \"{name}\"{help}"
            )));
        };
        let declared = ty.to_string();
        let fits = ty.shape.as_ref().is_none_or(|dims| {
            dims.len() == shape.len()
                && dims
                    .iter()
                    .zip(shape)
                    .all(|(dim, &size)| dim.size().is_none_or(|d| d == size))
        });
        if !fits {
            return Err(Error::Options(format!(
                "--shape: {shape:?} does not fit input \"{name}\", expected {declared}"
            )));
        }
        ty.shape = Some(
            shape
                .iter()
                .map(|&size| Dim::Known(i64::try_from(size).unwrap_or(i64::MAX)))
                .collect(),
        );
    }
    Ok(())
}

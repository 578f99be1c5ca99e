//! Models that are quantized already: read as a float twin and the plan that made them.
//!
//! [`Prequantized::read`] takes a model apart that another tool quantized, with Q/DQ pairs, with operators on integers,
//! or dynamically. Under its plan the twin computes what the model computes: [`Prequantized::agreement`] counts it.

mod agreement;
mod audit;
mod constants;
mod integer_products;
mod kept;
mod lower;
mod movement;
mod names;
mod plan;
mod read;
mod recover;
mod summary;

use std::collections::BTreeSet;

use qloupe_ir::{Model, Node};

pub use agreement::Agreement;
pub use summary::Summary;

use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::{Crop, Network, Prepared, StoredQuantization, crop_model};
use crate::report::Finding;
use crate::targets::Target;
use read::{Quantization, Reading};

/// True for a model with operators that make, read or compute with quantized integers.
pub fn is_quantized(model: &Model) -> bool {
    model.graph.nodes.iter().any(kept::works_on_integers)
}

/// Operators of a model that make integers or compute with them; DequantizeLinear alone may be a compressed weight.
pub fn quantizing_nodes(model: &Model) -> Vec<&Node> {
    let nodes = model.graph.nodes.iter();
    nodes
        .filter(|node| kept::works_on_integers(node) && node.op_type != "DequantizeLinear")
        .collect()
}

/// A quantized model, taken apart.
#[derive(Debug)]
pub struct Prequantized {
    /// The file, for messages.
    pub file: String,
    /// The model as it is.
    pub model: Model,
    reading: Reading,
}

impl Prequantized {
    /// Takes a quantized model apart; `file` is for messages.
    ///
    /// # Errors
    /// A malformed graph, a stored tensor that cannot be decoded.
    pub fn read(file: String, model: Model) -> Result<Self, Error> {
        let lowered = lower::lower(&file, &model)?;
        let reading = read::read(&file, lowered)?;
        Ok(Self { file, model, reading })
    }

    /// The float model that it stands for, on de-quantized weights.
    pub fn twin(&self) -> &Model {
        &self.reading.twin
    }

    /// A part of the twin.
    ///
    /// # Errors
    /// A crop that does not fit.
    pub fn cropped_twin(&self, crop: &Crop) -> Result<Model, Error> {
        crop_model(self.twin().clone(), &self.file, crop)
    }

    /// The twin prepared for a target, and the plan with which it computes what the model computes. `twin` is the network
    /// of [`Prequantized::twin`], perhaps cropped.
    ///
    /// # Errors
    /// Operators that cannot run.
    pub fn prepare(&self, twin: &Network, target: &'static Target) -> Result<(Prepared, QuantPlan), Error> {
        let fixed = |quantization: &Quantization| quantization.params().is_some();
        let values = self.reading.values.iter();
        let quantized: BTreeSet<String> = values
            .filter(|(_, quantization)| fixed(quantization))
            .map(|(name, _)| name.clone())
            .collect();
        let weights = self.reading.weights.iter();
        let size = |stored: &qloupe_ir::Constant| stored.dtype().size_bytes(stored.len()).unwrap_or(0) as u64;
        let stored = StoredQuantization {
            file_size_bytes: std::fs::metadata(&self.file).ok().map(|m| m.len()),
            weight_bytes: self.model.graph.constants().into_values().map(size).sum(),
            biases: weights
                .filter_map(|w| Some((w.name.clone(), w.bias.clone()?)))
                .collect(),
        };
        let prepared = Prepared::of_twin(twin, target, &quantized, stored)?;
        let plan = plan::plan_of(&self.reading, &prepared);
        Ok((prepared, plan))
    }

    /// What is wrong with the way in which it was quantized, for a target.
    pub fn audit(&self, target: &Target) -> Vec<Finding> {
        audit::audit(&self.reading, target)
    }

    /// What can be said of its quantization in a few numbers.
    pub fn summary(&self) -> Summary {
        summary::summarize(&self.model, &self.reading)
    }

    /// Gives the float model that it was made from the values that only its (perhaps cropped) twin has: where one value is
    /// read in several ways, each quantized reading is an Identity.
    ///
    /// # Errors
    /// Network inputs of other names: no sample could be fed to both.
    pub fn align(&self, twin: &Model, original: &mut Model, file: &str) -> Result<(), Error> {
        let names = |model: &Model| -> BTreeSet<String> {
            let inputs = model.graph.runtime_inputs();
            inputs.into_iter().map(|input| input.name.clone()).collect()
        };
        let (expected, got) = (names(twin), names(original));
        if expected != got {
            let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::Options(format!(
                "{file}: other network inputs than {}, expected {}, got {}",
                self.file,
                list(expected),
                list(got)
            )));
        }
        let nodes = twin.graph.nodes.iter();
        let readings = nodes.filter(|node| {
            let quantized = |name| self.reading.values.contains_key(name);
            node.is_onnx("Identity") && node.output(0).is_some_and(quantized)
        });
        for reading in readings {
            let (Some(x), Some(y)) = (reading.input(0), reading.output(0)) else {
                continue;
            };
            let graph = &mut original.graph;
            let makes = |name: &str| {
                graph
                    .nodes
                    .iter()
                    .position(|n| n.outputs.iter().any(|o| o == name))
            };
            let is_input = graph.inputs.iter().any(|input| input.name == x);
            let is_known = makes(y).is_some() || graph.initializer(y).is_some();
            let place = match makes(x) {
                Some(idx) => idx + 1,
                None if is_input => 0,
                None => continue,
            };
            if !is_known {
                graph.nodes.insert(place, reading.clone());
            }
        }
        Ok(())
    }
}

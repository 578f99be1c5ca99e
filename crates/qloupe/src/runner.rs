//! A network run from inputs to outputs, in float or under a plan.

use qloupe_exec::{QuantizedProgram, Stored, Tapped};
use qloupe_tensor::Tensor;

use crate::Error;
use crate::prepare::Network;

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

/// What sees every value of a run while it is hot: inputs and results as real numbers.
pub type Seen<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<(), Error>;

/// How a network is run.
#[derive(Debug)]
pub enum Runner {
    /// The golden float program.
    Float,
    /// What a target computes under a plan.
    Quantized(Box<QuantizedProgram>),
}

impl Runner {
    /// The outputs of the network, in its order; all quantized ones as real numbers.
    ///
    /// # Errors
    /// A run that fails, inputs that do not fit, what `seen` refuses.
    pub fn run(
        &self,
        network: &Network,
        inputs: &[(String, Tensor)],
        seen: Option<Seen<'_>>,
    ) -> Result<Named, Error> {
        match self {
            Self::Float => run_float(network, inputs, seen),
            Self::Quantized(program) => run_quantized(network, program, inputs, seen),
        }
    }
}

fn run_float(
    network: &Network,
    inputs: &[(String, Tensor)],
    mut seen: Option<Seen<'_>>,
) -> Result<Named, Error> {
    if let Some(seen) = &mut seen {
        for (name, tensor) in inputs {
            seen(name, tensor)?;
        }
    }
    let goals: Vec<&str> = output_names(network).collect();
    let given = inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), Stored::plain(tensor.clone())))
        .collect();
    let tapped = if seen.is_some() { Tapped::All } else { Tapped::None };
    let mut walk = network
        .program
        .walk_tapped(given, &goals, tapped)
        .map_err(|e| network.located(e))?;
    while let Some(stepped) = walk.step().map_err(|e| network.located(e))? {
        if let Some(seen) = &mut seen {
            for (name, value) in stepped.outputs() {
                if let Some(tensor) = value.as_tensor() {
                    seen(name, tensor.to_plain())?;
                }
            }
        }
    }
    let output = |name: &&str| {
        let value = walk.require(name).map_err(|e| network.located(e))?;
        Ok(((*name).to_owned(), value.to_plain().clone()))
    };
    goals.iter().map(output).collect()
}

fn run_quantized(
    network: &Network,
    program: &QuantizedProgram,
    inputs: &[(String, Tensor)],
    mut seen: Option<Seen<'_>>,
) -> Result<Named, Error> {
    if let Some(seen) = &mut seen {
        for (name, tensor) in inputs {
            let in_form = program.to_form(name, &Stored::plain(tensor.clone()));
            seen(name, program.to_float(name, &in_form).to_plain())?;
        }
    }
    let mut walk = program.walk(inputs).map_err(|e| network.located(e))?;
    while let Some((unit, results)) = walk.step().map_err(|e| network.located(e))? {
        if let Some(seen) = &mut seen {
            for (name, value) in unit.outputs().iter().zip(&results) {
                if let Some(tensor) = value.as_tensor() {
                    seen(name, program.to_float(name, tensor).to_plain())?;
                }
            }
        }
    }
    let output = |name: &str| {
        let value = walk.float_value(name).map_err(|e| network.located(e))?;
        Ok((name.to_owned(), value.to_plain().clone()))
    };
    output_names(network).map(output).collect()
}

fn output_names(network: &Network) -> impl Iterator<Item = &str> {
    network.model.graph.output_names()
}

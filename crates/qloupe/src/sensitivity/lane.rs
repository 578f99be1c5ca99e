//! One sample: its golden values and those of the plan, and what a source does to the outputs.

use qloupe_exec::{ExecError, Mode, QuantizedProgram, Replay, Stored, Value, to_form, to_real};
use qloupe_tensor::Tensor;

use super::parts::{Measured, Parts};
use super::source::Variant;
use super::split::{Energies, Split, input_energies};
use super::twin::{source_of, to_original, to_rewritten};
use crate::Error;
use crate::metrics::Moments;
use crate::prepare::{Network, Prepared};
use crate::runner::Named;

/// One sample on two ways.
pub(super) struct Lane<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    program: &'a QuantizedProgram,
    parts: &'a Parts,
    outputs: Vec<String>,
    /// The user's graph in float.
    float: Replay<'a>,
    /// The graph under test with everything quantized.
    quantized: Replay<'a>,
    golden: Named,
    entire: Vec<Moments>,
}

/// The outputs, part by part.
pub(super) struct Effect {
    /// With the source alone; `None` where the user's graph has no such value.
    pub(super) alone: Option<Measured>,
    /// Without the source.
    pub(super) rescued: Vec<Moments>,
}

/// Values that a source changes, by name.
pub(super) type Changed = Vec<(String, Value)>;

impl<'a> Lane<'a> {
    pub(super) fn new(
        network: &'a Network,
        prepared: &'a Prepared,
        program: &'a QuantizedProgram,
        parts: &'a Parts,
        inputs: &[(String, Tensor)],
        limit_bytes: usize,
    ) -> Result<Self, Error> {
        let located = |e| network.located(e);
        let float = Replay::of_float_with_interiors(&network.program, inputs, limit_bytes);
        let float = float.map_err(located)?;
        let quantized = Replay::of_quantized(program, inputs, limit_bytes).map_err(located)?;
        let outputs: Vec<String> = network.model.graph.output_names().map(str::to_owned).collect();
        let mut lane = Self {
            network,
            prepared,
            program,
            parts,
            outputs,
            float,
            quantized,
            golden: Named::new(),
            entire: Vec::new(),
        };
        lane.golden = lane.run_float(Changed::new()).map_err(located)?;
        let entire = lane.run_quantized(Changed::new()).map_err(located)?;
        lane.entire = parts.measure(&lane.golden, &entire);
        Ok(lane)
    }

    /// Everything quantized.
    pub(super) fn entire(&self) -> Vec<Moments> {
        self.entire.clone()
    }

    /// The golden outputs, and those of the plan in the units of the user's graph.
    pub(super) fn outputs(&mut self) -> Result<(Named, Named), Error> {
        let network = self.network;
        let quantized = self.run_quantized(Changed::new());
        let quantized = quantized.map_err(|e| network.located(e))?;
        Ok((self.golden.clone(), quantized))
    }

    /// A golden value of the user's graph.
    pub(super) fn golden_value(&mut self, name: &str) -> Result<Value, ExecError> {
        self.float.golden(name)
    }

    /// What a source does alone, and what is left without it.
    pub(super) fn effect(&mut self, variant: &Variant) -> Result<Effect, Error> {
        let network = self.network;
        let located = |e| network.located(e);
        let alone = match self.own(variant, &[]).map_err(located)? {
            Some(changed) => {
                let outputs = self.run_float(changed).map_err(located)?;
                Some(self.parts.measure_with_decisions(&self.golden, &outputs))
            }
            None => None,
        };
        let rescued = self.real(variant).map_err(located)?;
        let rescued = self.run_quantized(rescued).map_err(located)?;
        Ok(Effect {
            alone,
            rescued: self.parts.measure(&self.golden, &rescued),
        })
    }

    /// The error of a source by itself in its parts. `None` where the user's graph does not have what it reads.
    pub(super) fn split(
        &mut self,
        variant: &Variant,
        split: Option<&Split>,
    ) -> Result<Option<Energies>, Error> {
        let (prepared, replay) = (self.prepared, &mut self.float);
        let mut golden = |name: &str| {
            Ok(to_rewritten(
                prepared,
                name,
                replay.golden(source_of(prepared, name))?,
            ))
        };
        let energies = match (variant, split) {
            (Variant::Input(name, form), _) => {
                let value = golden(name);
                value.map(|value| value.as_tensor().map(|stored| input_energies(stored, form)))
            }
            (Variant::Unit { float, .. }, Some(split)) => split.run(float, &mut golden).map(Some),
            (Variant::Unit { .. }, None) => Ok(None),
        };
        match energies {
            Err(ExecError::UnknownValue { .. }) => Ok(None),
            other => other.map_err(|e| self.network.located(e)),
        }
    }

    /// The outputs with some values changed in the float network, measured.
    pub(super) fn alone(&mut self, changed: Changed) -> Result<Vec<Moments>, ExecError> {
        let outputs = self.run_float(changed)?;
        Ok(self.parts.measure(&self.golden, &outputs))
    }

    /// The golden values of names with some others changed, in the units of the user's graph.
    pub(super) fn reached(&mut self, changed: Changed, names: &[&str]) -> Result<Changed, ExecError> {
        let known = |name: &&&str| self.network.program.values().any(|known| known == **name);
        let names: Vec<&str> = names.iter().filter(known).copied().collect();
        let replayed = self.float.run(changed, &names)?;
        Ok(names
            .into_iter()
            .map(str::to_owned)
            .zip(replayed.values)
            .collect())
    }

    /// What a source makes of golden inputs, or of those in `given`, with its own error only, in the units of the user's
    /// graph. `None` where that has no such value.
    pub(super) fn own(
        &mut self,
        variant: &Variant,
        given: &[(String, Value)],
    ) -> Result<Option<Changed>, ExecError> {
        let prepared = self.prepared;
        let mut golden = |name: &str| -> Result<Value, ExecError> {
            let source = source_of(prepared, name);
            let known = given.iter().find(|(given, _)| given == source);
            let value = match known {
                Some((_, value)) => value.clone(),
                None => self.float.golden(source)?,
            };
            Ok(to_rewritten(prepared, name, value))
        };
        let results: Changed = match variant {
            Variant::Input(name, form) => {
                let value = golden(name)?;
                let once = value
                    .as_tensor()
                    .map(|x| to_real(&to_form(x, form, Mode::FakeQuant), form));
                once.map(|once| (name.clone(), once.into())).into_iter().collect()
            }
            Variant::Unit { own, .. } => {
                let unit = &own.units()[0];
                let inputs = unit.inputs().iter().map(|name| golden(name));
                let inputs = match inputs.collect::<Result<Vec<_>, _>>() {
                    Ok(inputs) => inputs,
                    Err(ExecError::UnknownValue { .. }) => return Ok(None),
                    Err(other) => return Err(other),
                };
                let results = unit.run(&inputs.iter().collect::<Vec<_>>())?;
                unit.outputs().iter().cloned().zip(results).collect()
            }
        };
        let known = |name: &str| self.network.program.values().any(|known| known == name);
        let mut changed = Changed::new();
        for (name, value) in results {
            let source = source_of(prepared, &name);
            if !known(source) {
                return Ok(None);
            }
            if let Some(stored) = value.as_tensor() {
                let real = self.real_of(&name, stored, variant);
                changed.push((source.to_owned(), to_original(prepared, &name, &real).into()));
            }
        }
        Ok(Some(changed))
    }

    fn real_of(&self, name: &str, stored: &Stored, variant: &Variant) -> Stored {
        match variant {
            Variant::Input(..) => stored.clone(),
            Variant::Unit { own, .. } => own.to_float(name, stored),
        }
    }

    /// What a source writes under the plan, by the names of the user's graph and in its units, and what it would write
    /// there without any error of its own.
    pub(super) fn under_plan(
        &mut self,
        variant: &Variant,
    ) -> Result<Vec<(String, Stored, Stored)>, ExecError> {
        let mut written = Vec::new();
        for (name, real) in self.real(variant)? {
            let value = self.quantized.golden(&name)?;
            if let (Some(test), Some(real)) = (value.as_tensor(), real.as_tensor()) {
                let test = self.program.to_float(&name, test);
                written.push((
                    source_of(self.prepared, &name).to_owned(),
                    to_original(self.prepared, &name, &test),
                    to_original(self.prepared, &name, real),
                ));
            }
        }
        Ok(written)
    }

    /// What a source would write without any error, on the values of the plan.
    fn real(&mut self, variant: &Variant) -> Result<Changed, ExecError> {
        match variant {
            Variant::Input(name, _) => Ok(vec![(name.clone(), self.float.golden(name)?)]),
            Variant::Unit { float, .. } => {
                let (program, quantized) = (self.program, &mut self.quantized);
                float.run(|name| {
                    let value = quantized.golden(name)?;
                    let real = value.as_tensor().map(|stored| program.to_float(name, stored));
                    Ok(real.map_or(value.clone(), Value::from))
                })
            }
        }
    }

    fn run_float(&mut self, changed: Changed) -> Result<Named, ExecError> {
        let goals: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let replayed = self.float.run(changed, &goals)?;
        let tensors = self.outputs.iter().zip(&replayed.values);
        let tensor =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_tensor()?.to_plain().clone()));
        Ok(tensors.filter_map(tensor).collect())
    }

    fn run_quantized(&mut self, changed: Changed) -> Result<Named, ExecError> {
        let goals: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let replayed = self.quantized.run(changed, &goals)?;
        let tensor = |(name, value): (&String, &Value)| {
            let real = self.program.to_float(name, value.as_tensor()?);
            Some((
                name.clone(),
                to_original(self.prepared, name, &real).to_plain().clone(),
            ))
        };
        Ok(self
            .outputs
            .iter()
            .zip(&replayed.values)
            .filter_map(tensor)
            .collect())
    }
}

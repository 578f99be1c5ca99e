//! Quantized execution: units that run one after the other, values in the form that a plan gives them.

mod form;
mod unit;

use std::collections::{BTreeMap, HashMap};

use qloupe_ir::{Topology, suggestion};
use qloupe_tensor::Tensor;

pub use form::{Cast, Form, Mode};
pub use unit::{Bias, Unit, UnitCompute, UnitSpec};

use crate::{ExecError, Program, Stored, Value};

/// What a plan says about every value and unit, in plain data.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    /// The form of values; a value that is not listed is float.
    pub forms: BTreeMap<String, Form>,
    /// The units, in execution order; together they hold every node that runs.
    pub units: Vec<UnitSpec>,
}

/// A graph whose units are ready to run quantized.
#[derive(Debug)]
pub struct QuantizedProgram {
    units: Vec<Unit>,
    forms: BTreeMap<String, Form>,
    mode: Mode,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Outputs that are constants.
    constants: BTreeMap<String, Value>,
    /// How many units use a value, plus one for a network output.
    uses: HashMap<String, usize>,
}

impl QuantizedProgram {
    /// Compiles the units of `program` (the float program of the same graph).
    ///
    /// # Errors
    /// A weight that does not fit its parameters; an integer kernel that refuses; a unit that is no part of the graph.
    pub fn new(program: &Program, assignment: &Assignment, mode: Mode) -> Result<Self, ExecError> {
        let graph = program.graph();
        let topology = Topology::new(graph)?;
        let inputs: Vec<String> = graph.runtime_inputs().iter().map(|i| i.name.clone()).collect();
        let outputs: Vec<String> = graph.outputs.iter().map(|o| o.name.clone()).collect();
        let units = assignment
            .units
            .iter()
            .map(|spec| Unit::new(program, &topology, spec, &assignment.forms, mode))
            .collect::<Result<Vec<_>, _>>()?;
        let mut uses: HashMap<String, usize> = HashMap::new();
        for name in units.iter().flat_map(Unit::inputs).chain(&outputs) {
            *uses.entry(name.clone()).or_default() += 1;
        }
        let constants = outputs
            .iter()
            .filter_map(|name| Some((name.clone(), program.constant(name)?.clone().into())))
            .collect();
        Ok(Self {
            units,
            forms: assignment.forms.clone(),
            mode,
            inputs,
            outputs,
            constants,
            uses,
        })
    }

    /// The units, in execution order.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The form of a value.
    pub fn form(&self, name: &str) -> &Form {
        self.forms.get(name).unwrap_or(&Form::FLOAT)
    }

    /// The mode it was compiled for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Brings a float value into its form.
    pub fn to_form(&self, name: &str, value: &Stored) -> Stored {
        form::to_form(value, self.form(name), self.mode)
    }

    /// The real value of a stored value.
    pub fn to_float(&self, name: &str, value: &Stored) -> Stored {
        form::to_float(value, self.form(name))
    }

    /// Begins a run. The network inputs are float and are brought into their form.
    ///
    /// # Errors
    /// An input that is not given, or that does not exist.
    pub fn walk(&self, inputs: &[(String, Tensor)]) -> Result<QuantizedWalk<'_>, ExecError> {
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !self.inputs.contains(name)) {
            let help = suggestion(name, self.inputs.iter().map(String::as_str));
            return Err(ExecError::UnknownValue {
                name: name.clone(),
                help,
            });
        }
        let mut values = HashMap::new();
        for name in &self.inputs {
            let (_, tensor) = inputs
                .iter()
                .find(|(given, _)| given == name)
                .ok_or_else(|| ExecError::MissingInput { name: name.clone() })?;
            let stored = Stored::plain(tensor.clone());
            form::check_scales(name, &stored, self.form(name))?;
            values.insert(name.clone(), self.to_form(name, &stored).into());
        }
        let live_bytes = values.values().map(Value::size_bytes).sum();
        Ok(QuantizedWalk {
            program: self,
            values,
            uses: self.uses.clone(),
            next: 0,
            live_bytes,
            peak_bytes: live_bytes,
        })
    }

    /// Runs the whole graph; the outputs are real values, in the order of the graph.
    ///
    /// # Errors
    /// As [`QuantizedProgram::walk`], or a unit that fails.
    pub fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, ExecError> {
        let mut walk = self.walk(inputs)?;
        while walk.step()?.is_some() {}
        self.outputs
            .iter()
            .map(|name| Ok((name.clone(), walk.float_value(name)?.to_plain().clone())))
            .collect()
    }
}

/// A quantized run in progress, one unit at a time.
#[derive(Debug)]
pub struct QuantizedWalk<'p> {
    program: &'p QuantizedProgram,
    values: HashMap<String, Value>,
    uses: HashMap<String, usize>,
    next: usize,
    live_bytes: usize,
    peak_bytes: usize,
}

impl<'p> QuantizedWalk<'p> {
    /// Runs the next unit and returns it with its outputs in their forms; `None` at the end.
    ///
    /// # Errors
    /// A unit that fails.
    pub fn step(&mut self) -> Result<Option<(&'p Unit, Vec<Value>)>, ExecError> {
        let Some(unit) = self.program.units.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let arguments = unit
            .inputs()
            .iter()
            .map(|name| self.require_value(name).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        let results = unit.run(&arguments)?;
        drop(arguments);
        for (name, result) in unit.outputs().iter().zip(&results) {
            if self.uses.contains_key(name) {
                self.live_bytes += result.size_bytes();
                self.values.insert(name.clone(), result.clone());
            }
        }
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        for name in unit.inputs() {
            let Some(uses) = self.uses.get_mut(name) else {
                continue;
            };
            *uses -= 1;
            if *uses == 0
                && let Some(value) = self.values.remove(name)
            {
                self.live_bytes -= value.size_bytes();
            }
        }
        Ok(Some((unit, results)))
    }

    /// A tensor that is alive, in its form.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`], [`ExecError::NotATensor`].
    pub fn require(&self, name: &str) -> Result<&Stored, ExecError> {
        let value = self.require_value(name)?;
        value.as_tensor().ok_or_else(|| ExecError::NotATensor {
            name: name.to_owned(),
            kind: value.kind(),
        })
    }

    fn require_value(&self, name: &str) -> Result<&Value, ExecError> {
        self.values
            .get(name)
            .or_else(|| self.program.constants.get(name))
            .ok_or_else(|| ExecError::UnknownValue {
                name: name.to_owned(),
                help: ", it was not computed".to_owned(),
            })
    }

    /// A value that is alive, as real numbers.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`].
    pub fn float_value(&self, name: &str) -> Result<Stored, ExecError> {
        Ok(self.program.to_float(name, self.require(name)?))
    }

    /// The largest number of bytes that were alive at once, without constants.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }
}

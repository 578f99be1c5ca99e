//! Quantized execution: units that run one after the other, values in the form that a plan gives them.

mod cache;
mod float_unit;
mod form;
mod unit;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use qloupe_ir::{Topology, suggestion};
use qloupe_tensor::Tensor;

pub use cache::UnitCache;
pub(crate) use float_unit::FloatUnit;
pub use form::{Cast, Form, Mode, to_float as to_real, to_form};
pub use unit::{Bias, Unit, UnitCompute, UnitSpec};

use crate::shape_memo::{Recall, ShapeMemo};
use crate::{ExecError, Few, Program, Stored, Value, in_pool};

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
    units: Vec<Arc<Unit>>,
    /// Slots of the inputs and outputs of each unit.
    pub(crate) unit_slots: Vec<(Vec<usize>, Vec<usize>)>,
    /// Every unit by itself.
    pub(crate) singles: Vec<Vec<usize>>,
    pub(crate) names: Vec<String>,
    forms: BTreeMap<String, Form>,
    /// The form of each value.
    slot_forms: Vec<Form>,
    mode: Mode,
    inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    slots: HashMap<String, usize>,
    /// Outputs that are constants.
    pub(crate) constants: Vec<Option<Value>>,
    /// How many units use a value, plus one for a network output.
    uses: Vec<usize>,
    shape_memo: ShapeMemo,
}

impl QuantizedProgram {
    /// Compiles the units of `program` (the float program of the same graph).
    ///
    /// # Errors
    /// A weight that does not fit its parameters; an integer kernel that refuses; a unit that is no part of the graph.
    pub fn new(program: &Program, assignment: &Assignment, mode: Mode) -> Result<Self, ExecError> {
        Self::with_cache(program, assignment, mode, &UnitCache::default())
    }

    /// [`QuantizedProgram::new`] with units that were compiled before, for other plans of the same program.
    ///
    /// # Errors
    /// As [`QuantizedProgram::new`].
    pub fn with_cache(
        program: &Program,
        assignment: &Assignment,
        mode: Mode,
        cache: &UnitCache,
    ) -> Result<Self, ExecError> {
        let graph = program.graph();
        let topology = Topology::new(graph)?;
        let inputs: Vec<String> = graph.runtime_inputs().iter().map(|i| i.name.clone()).collect();
        let outputs: Vec<String> = graph.output_names().map(str::to_owned).collect();
        let units = assignment
            .units
            .iter()
            .map(|spec| {
                let compile = || Unit::new(program, &topology, spec, &assignment.forms, mode);
                cache.unit(program, spec, &assignment.forms, mode, compile)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut slots: HashMap<String, usize> = HashMap::new();
        let mut uses: Vec<usize> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let mut slot_of = |name: &String, n_uses: usize| {
            let slot = *slots.entry(name.clone()).or_insert(names.len());
            if slot == names.len() {
                names.push(name.clone());
                uses.push(0);
            }
            uses[slot] += n_uses;
            slot
        };
        let unit_slots = units
            .iter()
            .map(|unit| {
                let read = unit.inputs().iter().map(|name| slot_of(name, 1)).collect();
                (read, unit.outputs().iter().map(|name| slot_of(name, 0)).collect())
            })
            .collect();
        inputs.iter().for_each(|name| {
            slot_of(name, 0);
        });
        outputs.iter().for_each(|name| {
            slot_of(name, 1);
        });
        let mut constants = vec![None; uses.len()];
        for name in &outputs {
            constants[slots[name]] = program.constant(name).map(|tensor| tensor.clone().into());
        }
        let depends = |name: &String| {
            program
                .slot(name)
                .is_ok_and(|slot| program.is_data_dependent(slot))
        };
        let is_shape_only = |unit: &Arc<Unit>| !unit.outputs().iter().any(depends);
        let sources = inputs.iter().map(|name| slots[name]).collect();
        let form = |name| assignment.forms.get(name).unwrap_or(&Form::FLOAT).clone();
        Ok(Self {
            slot_forms: names.iter().map(form).collect(),
            shape_memo: ShapeMemo::new(sources, units.iter().map(is_shape_only).collect()),
            singles: (0..units.len()).map(|unit| vec![unit]).collect(),
            units,
            unit_slots,
            names,
            forms: assignment.forms.clone(),
            mode,
            inputs,
            outputs,
            slots,
            constants,
            uses,
        })
    }

    /// The units, in execution order.
    pub fn units(&self) -> &[Arc<Unit>] {
        &self.units
    }

    /// The network outputs.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The names of all values; units read and write values at places of this list.
    pub fn values(&self) -> &[String] {
        &self.names
    }

    /// The places in [`QuantizedProgram::values`] of what a unit reads and of what it writes.
    pub fn places(&self, unit_idx: usize) -> (&[usize], &[usize]) {
        let (read, written) = &self.unit_slots[unit_idx];
        (read, written)
    }

    /// The form of the value at a place in [`QuantizedProgram::values`].
    pub fn form_at(&self, place: usize) -> &Form {
        &self.slot_forms[place]
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

    /// Brings a float value into the form of the value at a place in [`QuantizedProgram::values`].
    pub fn to_form_at(&self, place: usize, value: &Stored) -> Stored {
        form::to_form(value, self.form_at(place), self.mode)
    }

    /// The real value of a stored value.
    pub fn to_float(&self, name: &str, value: &Stored) -> Stored {
        form::to_float(value, self.form(name))
    }

    /// The slot of a value.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`] with the nearest name.
    pub(crate) fn slot(&self, name: &str) -> Result<usize, ExecError> {
        let slot = self.slots.get(name).copied();
        slot.ok_or_else(|| ExecError::UnknownValue {
            name: name.to_owned(),
            help: suggestion(name, self.names.iter().map(String::as_str)),
        })
    }

    /// The network inputs in their forms, with their slots.
    ///
    /// # Errors
    /// An input that is not given, or that does not exist.
    pub(crate) fn inputs_in_form(
        &self,
        inputs: &[(String, Tensor)],
    ) -> Result<Vec<(usize, Value)>, ExecError> {
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !self.inputs.contains(name)) {
            let help = suggestion(name, self.inputs.iter().map(String::as_str));
            return Err(ExecError::UnknownValue {
                name: name.clone(),
                help,
            });
        }
        let in_form = |name: &String| {
            let (_, tensor) = inputs
                .iter()
                .find(|(given, _)| given == name)
                .ok_or_else(|| ExecError::MissingInput { name: name.clone() })?;
            let stored = Stored::plain(tensor.clone());
            form::check_scales(name, &stored, self.form(name))?;
            Ok((self.slots[name], self.to_form(name, &stored).into()))
        };
        self.inputs.iter().map(in_form).collect()
    }

    /// Begins a run. The network inputs are float and are brought into their form.
    ///
    /// # Errors
    /// An input that is not given, or that does not exist.
    pub fn walk(&self, inputs: &[(String, Tensor)]) -> Result<QuantizedWalk<'_>, ExecError> {
        let mut values = vec![None; self.uses.len()];
        for (slot, value) in self.inputs_in_form(inputs)? {
            values[slot] = Some(value);
        }
        let live_bytes = values.iter().flatten().map(Value::size_bytes).sum();
        Ok(QuantizedWalk {
            recall: self.shape_memo.recall(&values),
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
        in_pool(|| {
            let mut walk = self.walk(inputs)?;
            while walk.step()?.is_some() {}
            self.outputs
                .iter()
                .map(|name| Ok((name.clone(), walk.float_value(name)?.to_plain().clone())))
                .collect()
        })
    }
}

/// A quantized run in progress, one unit at a time.
#[derive(Debug)]
pub struct QuantizedWalk<'p> {
    program: &'p QuantizedProgram,
    values: Vec<Option<Value>>,
    uses: Vec<usize>,
    next: usize,
    recall: Recall<'p>,
    live_bytes: usize,
    peak_bytes: usize,
}

impl<'p> QuantizedWalk<'p> {
    /// Runs the next unit and returns it with its outputs in their forms; `None` at the end.
    ///
    /// # Errors
    /// A unit that fails.
    pub fn step(&mut self) -> Result<Option<(&'p Unit, Vec<Value>)>, ExecError> {
        let program = self.program;
        let unit_idx = self.next;
        let Some(unit) = program.units.get(unit_idx).map(Arc::as_ref) else {
            self.recall.finish();
            return Ok(None);
        };
        let (inputs, outputs) = &program.unit_slots[unit_idx];
        self.next += 1;
        let results = if let Some(results) = self.recall.results(unit_idx) {
            results.to_vec()
        } else {
            let argument = |(&slot, name): (&usize, &String)| self.at(slot).ok_or_else(|| not_computed(name));
            let arguments = inputs.iter().zip(unit.inputs()).map(argument);
            let results = unit.run(&arguments.collect::<Result<Few<_>, _>>()?)?;
            if self.recall.wants(unit_idx) {
                self.recall.learn(unit_idx, &results);
            }
            results
        };
        for (&slot, result) in outputs.iter().zip(&results) {
            if self.uses[slot] > 0 {
                self.live_bytes += result.size_bytes();
                self.values[slot] = Some(result.clone());
            }
        }
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        for &slot in inputs {
            self.uses[slot] -= 1;
            if self.uses[slot] == 0
                && let Some(value) = self.values[slot].take()
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
        let slot = self.program.slots.get(name);
        slot.and_then(|&slot| self.at(slot))
            .ok_or_else(|| not_computed(name))
    }

    fn at(&self, slot: usize) -> Option<&Value> {
        self.values[slot]
            .as_ref()
            .or(self.program.constants[slot].as_ref())
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

fn not_computed(name: &str) -> ExecError {
    ExecError::UnknownValue {
        name: name.to_owned(),
        help: ", it was not computed".to_owned(),
    }
}

//! The plan beside the model's own arithmetic: do both come to the same integers?

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use qloupe_exec::{Cast, ExecError, Form, Mode, Program, QuantizedProgram, Stored, Unit, UnitCompute, Value};
use qloupe_tensor::{QuantParams, Rounding, Tensor, dequantize_linear, quantize_linear};

use super::Prequantized;
use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::Prepared;

/// How many integers of a run are the same, each unit given what the model itself gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Quantized values that were compared.
    pub n_values: usize,
    /// Their integers.
    pub n_integers: usize,
    /// Integers that differ.
    pub n_different: usize,
    /// By how much at most.
    pub largest: u32,
    /// Float values that units with a dynamic scale made.
    pub n_float_values: usize,
    /// Their largest difference, relative to the largest number of the value.
    pub largest_relative: f64,
    /// Values that could not be compared: the model does not have them, or what they are made of.
    pub n_skipped: usize,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n_values + self.n_float_values + self.n_skipped == 0 {
            return f.write_str("the plan quantizes no value, nothing to compare");
        }
        let same = self.n_integers - self.n_different;
        write!(
            f,
            "{same} of {} integers in {} values",
            self.n_integers, self.n_values
        )?;
        if self.n_different > 0 {
            write!(f, ", the others differ by at most {}", self.largest)?;
        }
        if self.n_float_values > 0 {
            let (n, largest) = (self.n_float_values, self.largest_relative);
            write!(
                f,
                "; {n} float values of dynamic units differ by at most {largest:.1e} of their largest number"
            )?;
        }
        if self.n_skipped > 0 {
            write!(f, "; {} values not compared", self.n_skipped)?;
        }
        Ok(())
    }
}

impl Prequantized {
    /// Runs the model by its own operators beside the units of its plan in fake-quant mode; `inputs` is one sample in
    /// float. Each unit is given what the model itself computed, so that differences do not add up.
    ///
    /// # Errors
    /// An operator that cannot run, a run that fails.
    pub fn agreement(
        &self,
        prepared: &Prepared,
        plan: &QuantPlan,
        inputs: &[(String, Tensor)],
    ) -> Result<Agreement, Error> {
        let located = |source| Error::Exec {
            file: self.file.clone(),
            source,
        };
        let own = Program::new(&self.model).map_err(located)?;
        let assignment = prepared.assignment(plan);
        let units =
            QuantizedProgram::new(&prepared.program, &assignment, Mode::FakeQuant).map_err(located)?;
        let mut run = OwnRun {
            integers_of: self.integers_of(),
            forms: &assignment.forms,
            values: HashMap::new(),
        };
        self.run_own(&own, inputs, &mut run).map_err(located)?;
        let mut agreement = Agreement::default();
        for unit in units.units() {
            run.compare(unit, &mut agreement).map_err(located)?;
        }
        Ok(agreement)
    }

    /// The integer value of the model for each quantized value of the twin.
    fn integers_of(&self) -> BTreeMap<String, Vec<String>> {
        let mut integers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.reading.stands_for {
            integers.entry(value.clone()).or_default().push(name.clone());
        }
        integers
    }

    /// Every value that the model's own operators compute, under the names of the twin.
    fn run_own(
        &self,
        own: &Program,
        inputs: &[(String, Tensor)],
        run: &mut OwnRun<'_>,
    ) -> Result<(), ExecError> {
        let mut given = Vec::new();
        for input in self.model.graph.runtime_inputs() {
            let value = self.reading.stands_for.get(&input.name).unwrap_or(&input.name);
            let found = inputs.iter().find(|(name, _)| name == value);
            let (_, tensor) = found.ok_or_else(|| ExecError::MissingInput { name: value.clone() })?;
            let params = run.forms.get(value).and_then(Form::params);
            let tensor = match params.filter(|_| value != &input.name || is_integer(input)) {
                Some(params) => {
                    quantize_linear(tensor, params, Rounding::TiesEven).map_err(|e| ExecError::Node {
                        node: input.name.clone(),
                        op_type: "Input".to_owned(),
                        source: e.into(),
                    })?
                }
                None => tensor.clone(),
            };
            let stored = Stored::plain(tensor);
            run.values.insert(input.name.clone(), stored.clone());
            given.push((input.name.clone(), stored));
        }
        let goals: Vec<&str> = own.graph().output_names().collect();
        let mut walk = own.walk(given, &goals)?;
        while let Some(stepped) = walk.step()? {
            for (name, value) in stepped.outputs() {
                if let Value::Tensor(stored) = value {
                    run.values.insert(name.to_owned(), stored.clone());
                }
            }
        }
        Ok(())
    }
}

fn is_integer(input: &qloupe_ir::ValueInfo) -> bool {
    let dtype = input.tensor_type().and_then(|ty| ty.dtype);
    dtype.is_some_and(|dtype| dtype.integer_range().is_some())
}

/// What the model itself computed.
struct OwnRun<'a> {
    integers_of: BTreeMap<String, Vec<String>>,
    forms: &'a BTreeMap<String, Form>,
    values: HashMap<String, Stored>,
}

impl OwnRun<'_> {
    fn compare(&self, unit: &Unit, agreement: &mut Agreement) -> Result<(), ExecError> {
        let params = |name: &String| self.forms.get(name).and_then(Form::params);
        let dynamic = unit.inputs().iter().any(|name| {
            unit.compute() == UnitCompute::Quantized
                && self.forms.get(name).and_then(Form::cast) == Some(&Cast::Dynamic)
        });
        let compared = |name: &&String| params(name).is_some() || dynamic;
        let n_compared = unit.outputs().iter().filter(compared).count();
        if n_compared == 0 {
            return Ok(());
        }
        let inputs = unit
            .inputs()
            .iter()
            .map(|name| self.real(name).map(Value::Tensor));
        let inputs: Option<Vec<Value>> = inputs.collect();
        let Some(inputs) = inputs else {
            agreement.n_skipped += n_compared;
            return Ok(());
        };
        let results = unit.run_on_float(&inputs)?;
        for (name, result) in unit.outputs().iter().zip(&results) {
            let Some(params) = params(name) else {
                if dynamic {
                    agreement.count_float(self.real(name), result.as_tensor());
                }
                continue;
            };
            let expected = self.integers(name, params);
            let got = result
                .as_tensor()
                .map(|stored| quantize_linear(stored.to_plain(), params, Rounding::TiesEven));
            match (expected, got) {
                (Some(expected), Some(Ok(got))) if expected.shape() == got.shape() => {
                    agreement.count(&expected, &got);
                }
                _ => agreement.n_skipped += 1,
            }
        }
        Ok(())
    }

    /// The integers of a value as the model has them.
    fn integers(&self, name: &str, params: &QuantParams) -> Option<Tensor> {
        let names = self.integers_of.get(name)?.iter();
        let mut tensors = names.filter_map(|name| self.values.get(name));
        let found = tensors.find(|stored| stored.dtype() == params.dtype())?;
        Some(found.to_plain().clone())
    }

    /// A value of the twin as the model has it, in real numbers.
    fn real(&self, name: &str) -> Option<Stored> {
        if let Some(params) = self.forms.get(name).and_then(Form::params)
            && let Some(integers) = self.integers(name, params)
        {
            return Some(Stored::plain(dequantize_linear(&integers, params).ok()?));
        }
        self.values.get(name).cloned()
    }
}

impl Agreement {
    fn count_float(&mut self, expected: Option<Stored>, got: Option<&Stored>) {
        let (Some(expected), Some(got)) = (expected, got) else {
            self.n_skipped += 1;
            return;
        };
        let numbers = |stored: &Stored| stored.to_plain().as_slice::<f32>().map(<[f32]>::to_vec);
        let (Some(expected), Some(got)) = (numbers(&expected), numbers(got)) else {
            self.n_skipped += 1;
            return;
        };
        let largest = expected.iter().fold(0_f32, |largest, v| largest.max(v.abs()));
        let difference = expected
            .iter()
            .zip(&got)
            .fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
        self.n_float_values += 1;
        if difference > 0.0 {
            self.largest_relative = self
                .largest_relative
                .max(f64::from(difference) / f64::from(largest));
        }
    }

    fn count(&mut self, expected: &Tensor, got: &Tensor) {
        let (Ok(expected), Ok(got)) = (expected.to_f64_vec(), got.to_f64_vec()) else {
            self.n_skipped += 1;
            return;
        };
        self.n_values += 1;
        self.n_integers += expected.len();
        for (a, b) in expected.iter().zip(&got) {
            let difference = (a - b).abs() as u32;
            if difference > 0 {
                self.n_different += 1;
                self.largest = self.largest.max(difference);
            }
        }
    }
}

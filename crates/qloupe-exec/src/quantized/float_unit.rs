//! The float program of a unit, run from its inputs to its outputs without the bookkeeping of a walk.

use crate::{ExecError, Program, Value, chain};

/// A program that is always run as a whole, from the same inputs to the same outputs.
#[derive(Debug)]
pub(crate) struct FloatUnit {
    program: Program,
    /// Where the inputs are.
    inputs: Vec<usize>,
    /// Where the outputs are.
    outputs: Vec<usize>,
    /// Steps that read a value, plus one for an output.
    uses: Vec<usize>,
}

impl FloatUnit {
    /// # Errors
    /// Names that the program does not have.
    pub(crate) fn new(program: Program, inputs: &[String], outputs: &[String]) -> Result<Self, ExecError> {
        let slots = |names: &[String]| -> Result<Vec<usize>, ExecError> {
            names.iter().map(|name| program.slot(name)).collect()
        };
        let (inputs, outputs) = (slots(inputs)?, slots(outputs)?);
        let mut uses = vec![0; program.n_slots()];
        let read = program.steps.iter().flat_map(|step| step.inputs.iter().flatten());
        for &slot in read.chain(&outputs) {
            uses[slot] += 1;
        }
        Ok(Self {
            program,
            inputs,
            outputs,
            uses,
        })
    }

    /// The outputs for some inputs. A value is freed after the last step that reads it.
    ///
    /// # Errors
    /// A node that fails.
    pub(crate) fn run(&self, inputs: impl Iterator<Item = Value>) -> Result<Vec<Value>, ExecError> {
        let Self { program, .. } = self;
        let mut values = vec![None; program.n_slots()];
        for (&slot, value) in self.inputs.iter().zip(inputs) {
            values[slot] = Some(value);
        }
        let mut uses = self.uses.clone();
        for group in &program.groups {
            let mut rest: Option<Vec<usize>> = None;
            loop {
                let members = rest.as_deref().unwrap_or(group);
                let value = |slot: usize| values[slot].as_ref().or(program.constants[slot].as_ref());
                let keeps = |slot: usize, readers: usize| uses[slot] > readers;
                let ran = chain::run(&program.steps, members, &value, &keeps, None)?;
                for (slot, value) in ran.values.into_iter().filter(|(slot, _)| uses[*slot] > 0) {
                    values[slot] = Some(value);
                }
                let read = |&step: &usize| program.steps[step].inputs.iter().flatten();
                for &slot in ran.steps.iter().flat_map(read) {
                    uses[slot] -= 1;
                    if uses[slot] == 0 {
                        values[slot] = None;
                    }
                }
                if ran.rest.is_empty() {
                    break;
                }
                rest = Some(ran.rest);
            }
        }
        let output = |&slot: &usize| values[slot].clone().or_else(|| program.constants[slot].clone());
        let outputs: Option<Vec<Value>> = self.outputs.iter().map(output).collect();
        Ok(outputs.expect("invariant: a unit computes its outputs"))
    }
}

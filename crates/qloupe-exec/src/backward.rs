//! Gradients of a float program at the golden values of one sample: nodes in reverse order, several seeds at once.
//!
//! What a call needs on the way back is made once and shared by all seeds. Each value's gradient is handed out when it is
//! whole, and freed.

use std::collections::BTreeMap;

use rayon::prelude::*;

use qloupe_tensor::{DType, Tensor};

use crate::ops::sum_of_gradients;
use crate::program::Step;
use crate::{
    Differentiable, ExecError, Gradients, OpError, PreparedPullback, Program, Stored, Value, in_pool,
};

/// A float program with its constants packed for the way back.
#[derive(Debug)]
pub struct Backward<'p> {
    program: &'p Program,
    prepared: Vec<Option<Box<dyn PreparedPullback>>>,
    /// Whether the content of a value depends on the content of a network input.
    dependent: Vec<bool>,
}

/// A value whose gradient lacks what flows through a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// The value.
    pub value: String,
    /// The node, by name or first output, that has no vector-Jacobian product for it.
    pub node: String,
}

/// Where golden values come from. A value that is asked for is needed by one node, now.
pub type GoldenValues<'a> = dyn FnMut(&str) -> Result<Value, ExecError> + Send + 'a;

/// What sees the gradients of a value: one for each seed, `None` where nothing flows.
pub type GradientVisitor<'a> = dyn FnMut(&str, &[Option<Stored>]) + Send + 'a;

/// The state of a pass.
struct Pass {
    /// For each seed the gradients that are not whole yet, by slot.
    gradients: Vec<BTreeMap<usize, Stored>>,
    /// Values that a seed depends on.
    on_path: Vec<bool>,
    /// The step that a value's gradient lacks.
    lacks: Vec<Option<usize>>,
}

impl<'p> Backward<'p> {
    /// Packs the constants of a program.
    ///
    /// # Errors
    /// A constant that does not fit its node.
    pub fn new(program: &'p Program) -> Result<Self, ExecError> {
        let names = program.data_dependent();
        let dependent: Vec<bool> = program.values().map(|name| names.contains(name)).collect();
        let prepare = |step: &Step| {
            if !step.inputs.iter().flatten().any(|&slot| dependent[slot]) {
                return Ok(None);
            }
            let constant = |slot: &Option<usize>| {
                let value = program.constants[(*slot)?].as_ref()?.as_tensor()?;
                Some(value.to_plain().clone())
            };
            let constants: Vec<Option<Tensor>> = step.inputs.iter().map(constant).collect();
            step.call.prepare_pullback(&constants)
        };
        let prepared = program.steps.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self {
            program,
            prepared,
            dependent,
        })
    }

    /// The gradients of all values for several seeds: gradients of some values, usually of network outputs.
    ///
    /// `golden` gives the values of the sample. `visit` gets every value's gradients, those with a seed too, in reverse order
    /// of production; it does not get values whose gradient is incomplete, which come back with the node that is in the way.
    /// A value that is neither has a gradient of 0.
    ///
    /// The bits do not depend on the number of threads or of other seeds.
    ///
    /// # Errors
    /// Unknown names, a seed of another shape than its value, a node that fails.
    pub fn run(
        &self,
        golden: &mut GoldenValues<'_>,
        seeds: &[Vec<(String, Tensor)>],
        visit: &mut GradientVisitor<'_>,
    ) -> Result<Vec<Incomplete>, ExecError> {
        in_pool(|| self.run_here(golden, seeds, visit))
    }

    fn run_here(
        &self,
        golden: &mut GoldenValues<'_>,
        seeds: &[Vec<(String, Tensor)>],
        visit: &mut GradientVisitor<'_>,
    ) -> Result<Vec<Incomplete>, ExecError> {
        let mut pass = self.begin(golden, seeds)?;
        for (step_idx, step) in self.program.steps.iter().enumerate().rev() {
            let outputs: Vec<usize> = step.outputs.iter().flatten().copied().collect();
            if !outputs.iter().any(|&slot| pass.on_path[slot]) {
                continue;
            }
            let whole = self.finish(&mut pass, &outputs, visit);
            let lacking = outputs.iter().find_map(|&slot| pass.lacks[slot]);
            if lacking.is_some() || !self.flows(step_idx, &mut pass, whole, golden)? {
                let at = lacking.unwrap_or(step_idx);
                for slot in self.dependent_inputs(step) {
                    pass.lacks[slot].get_or_insert(at);
                }
            }
        }
        let produced = |slot: usize| {
            let mut outputs = self.program.steps.iter().flat_map(|step| &step.outputs);
            outputs.any(|output| *output == Some(slot))
        };
        let inputs: Vec<usize> = (0..self.program.n_slots())
            .filter(|&slot| pass.on_path[slot] && !produced(slot))
            .collect();
        self.finish(&mut pass, &inputs, visit);
        let label = |step: usize| self.program.steps[step].call.node().label().to_owned();
        let lacking = pass.lacks.iter().enumerate();
        Ok(lacking
            .filter_map(|(slot, step)| {
                Some(Incomplete {
                    value: self.program.name(slot).to_owned(),
                    node: label((*step)?),
                })
            })
            .collect())
    }

    fn begin(
        &self,
        golden: &mut GoldenValues<'_>,
        seeds: &[Vec<(String, Tensor)>],
    ) -> Result<Pass, ExecError> {
        let n_slots = self.program.n_slots();
        let mut on_path = vec![false; n_slots];
        let mut gradients = Vec::with_capacity(seeds.len());
        for seed in seeds {
            let mut first = BTreeMap::new();
            for (name, gradient) in seed {
                let slot = self.program.slot(name)?;
                let value = golden(name)?;
                let shape = value.as_tensor().map(Stored::shape);
                if gradient.dtype() != DType::Float32 || shape.as_deref() != Some(gradient.shape()) {
                    return Err(ExecError::WrongGradient {
                        name: name.clone(),
                        expected: shape.unwrap_or_default(),
                        got: gradient.shape().to_vec(),
                        dtype: gradient.dtype(),
                    });
                }
                on_path[slot] = self.dependent[slot];
                first.insert(slot, Stored::plain(gradient.clone()));
            }
            gradients.push(first);
        }
        for step in self.program.steps.iter().rev() {
            if step.outputs.iter().flatten().any(|&slot| on_path[slot]) {
                self.dependent_inputs(step).for_each(|slot| on_path[slot] = true);
            }
        }
        Ok(Pass {
            gradients,
            on_path,
            lacks: vec![None; n_slots],
        })
    }

    /// Takes the gradients of values that no node reads any more, and shows those that lack nothing.
    fn finish(
        &self,
        pass: &mut Pass,
        slots: &[usize],
        visit: &mut GradientVisitor<'_>,
    ) -> Vec<Vec<Option<Stored>>> {
        let mut whole = vec![vec![None; slots.len()]; pass.gradients.len()];
        for (idx, &slot) in slots.iter().enumerate() {
            let taken: Vec<Option<Stored>> = pass.gradients.iter_mut().map(|g| g.remove(&slot)).collect();
            if pass.lacks[slot].is_none() && taken.iter().any(Option::is_some) {
                visit(self.program.name(slot), &taken);
            }
            for (whole, gradient) in whole.iter_mut().zip(taken) {
                whole[idx] = gradient;
            }
        }
        whole
    }

    fn dependent_inputs<'s>(&'s self, step: &'s Step) -> impl Iterator<Item = usize> + 's {
        let inputs = step.inputs.iter().flatten().copied();
        inputs.filter(|&slot| self.dependent[slot])
    }

    /// Lets the gradients of the outputs of a step flow to its inputs; false where the step has no way back for them.
    /// Inputs that it does not cover are noted.
    fn flows(
        &self,
        step_idx: usize,
        pass: &mut Pass,
        whole: Vec<Vec<Option<Stored>>>,
        golden: &mut GoldenValues<'_>,
    ) -> Result<bool, ExecError> {
        let step = &self.program.steps[step_idx];
        let Some(operator) = step.call.as_differentiable() else {
            return Ok(false);
        };
        if self.dependent_inputs(step).next().is_none() || step.inputs.len() != step.call.node().inputs.len()
        {
            return Ok(self.dependent_inputs(step).next().is_none());
        }
        let Some(values) = self.values_of(step, operator, golden)? else {
            return Ok(false);
        };
        // An integer that something depends on has no gradient.
        let outputs = step.outputs.iter().zip(&values.outputs);
        let is_integer = |(slot, value): (&Option<usize>, &Option<Stored>)| {
            let float = value.as_ref().is_none_or(|value| value.dtype().is_float());
            slot.is_some_and(|slot| pass.on_path[slot]) && !float
        };
        if outputs.into_iter().any(is_integer) {
            return Ok(false);
        }
        let wanted = self.wanted(step_idx, operator, &values, pass);
        if !wanted.contains(&true) || whole.iter().flatten().all(Option::is_none) {
            return Ok(true);
        }
        // One gradient for each output of the node: those without a name have none.
        let place: Vec<Option<usize>> = {
            let mut next = 0;
            let mut place = |slot: &Option<usize>| {
                slot.map(|_| {
                    next += 1;
                    next - 1
                })
            };
            step.outputs.iter().map(&mut place).collect()
        };
        let inputs: Vec<Option<&Stored>> = values.inputs.iter().map(Option::as_ref).collect();
        let outputs: Vec<Option<&Stored>> = values.outputs.iter().map(Option::as_ref).collect();
        let prepared = self.prepared[step_idx].as_deref();
        let slots = &step.inputs;
        let result = step.call.with_pullback(
            prepared,
            (&inputs, &outputs, &wanted),
            |pullback, into_call, out_of_call| {
                let flow = |gradients: &mut BTreeMap<usize, Stored>, mut whole: Vec<Option<Stored>>| {
                    if whole.iter().all(Option::is_none) {
                        return Ok(());
                    }
                    let of_outputs: Gradients = place
                        .iter()
                        .map(|idx| Some(into_call(whole[(*idx)?].take()?)))
                        .collect();
                    for (idx, gradient) in pullback.apply(of_outputs)?.into_iter().enumerate() {
                        if let (Some(gradient), true, Some(slot)) = (gradient, wanted[idx], slots[idx]) {
                            accumulate(gradients, slot, out_of_call(idx, gradient)?)?;
                        }
                    }
                    Ok::<_, OpError>(())
                };
                if pass.gradients.len() == 1 {
                    let whole = whole.into_iter().next().unwrap_or_default();
                    return flow(&mut pass.gradients[0], whole);
                }
                pass.gradients
                    .par_iter_mut()
                    .zip(whole)
                    .with_max_len(1)
                    .try_for_each(|(gradients, whole)| flow(gradients, whole))
            },
        );
        match result {
            Ok(()) => Ok(true),
            Err(ExecError::Node {
                source: OpError::Unsupported { .. },
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Which inputs take a gradient. Those that depend on a network input and do not are noted as incomplete.
    fn wanted(
        &self,
        step_idx: usize,
        operator: &dyn Differentiable,
        values: &CallValues,
        pass: &mut Pass,
    ) -> Vec<bool> {
        let step = &self.program.steps[step_idx];
        let mut wanted = vec![false; step.inputs.len()];
        for (idx, slot) in step.inputs.iter().enumerate() {
            let Some(slot) = slot.filter(|&slot| self.dependent[slot]) else {
                continue;
            };
            let is_float = values.inputs[idx]
                .as_ref()
                .is_some_and(|value| value.dtype().is_float());
            wanted[idx] = is_float && operator.covers(step.call.node(), idx);
            if !wanted[idx] {
                pass.lacks[slot].get_or_insert(step_idx);
            }
        }
        wanted
    }

    /// The golden values around a step; `None` if one is no tensor.
    fn values_of(
        &self,
        step: &Step,
        operator: &dyn Differentiable,
        golden: &mut GoldenValues<'_>,
    ) -> Result<Option<CallValues>, ExecError> {
        let mut value_of = |slot: &Option<usize>| {
            let Some(slot) = *slot else {
                return Ok(Some(None));
            };
            let value = match &self.program.constants[slot] {
                Some(constant) => constant.clone(),
                None => golden(self.program.name(slot))?,
            };
            Ok(match value {
                Value::Tensor(stored) => Some(Some(stored)),
                Value::Absent => Some(None),
                Value::Sequence(_) => None,
            })
        };
        let mut all = |slots: &[Option<usize>]| {
            let values: Result<Vec<Option<Option<Stored>>>, ExecError> =
                slots.iter().map(&mut value_of).collect();
            Ok::<_, ExecError>(values?.into_iter().collect::<Option<Vec<_>>>())
        };
        // The only output of floats is one of floats.
        let reads_outputs = operator.reads_outputs() || step.outputs.len() > 1;
        let inputs = all(&step.inputs)?;
        let outputs = if reads_outputs {
            all(&step.outputs)?
        } else {
            Some(vec![None; step.outputs.len()])
        };
        Ok(inputs
            .zip(outputs)
            .map(|(inputs, outputs)| CallValues { inputs, outputs }))
    }
}

/// The values around a step.
struct CallValues {
    inputs: Vec<Option<Stored>>,
    outputs: Vec<Option<Stored>>,
}

/// Adds a gradient to what is there of a value.
fn accumulate(gradients: &mut BTreeMap<usize, Stored>, slot: usize, gradient: Stored) -> Result<(), OpError> {
    let sum = match gradients.remove(&slot) {
        None => gradient,
        Some(before) => {
            let layout = before.layout();
            let sum = sum_of_gradients(before.into_layout(layout), gradient.in_layout(layout))?;
            Stored::of_call(sum, layout)
        }
    };
    gradients.insert(slot, sum);
    Ok(())
}

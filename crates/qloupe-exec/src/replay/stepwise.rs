//! What partial re-execution asks of a program: steps that read and write numbered values.

use smallvec::smallvec;

use crate::chain::{self, Ran};
use crate::{ExecError, Few, Program, QuantizedProgram, Value};

/// A program as steps over slots.
pub(super) trait Stepwise: Sync {
    /// Steps that run one after the other, those together that one kernel call may do.
    fn groups(&self) -> &[Vec<usize>];
    /// The slots that a step reads.
    fn reads(&self, step: usize) -> Few<usize>;
    /// The slots that a step writes.
    fn writes(&self, step: usize) -> Few<usize>;
    /// Runs the first of some steps of a group, and those that one kernel call can do with it.
    fn run<'v>(
        &self,
        members: &[usize],
        value: &dyn Fn(usize) -> Option<&'v Value>,
        keeps: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Ran, ExecError>;
    /// The nodes of a step in the graph.
    fn node_idxs(&self, step: usize) -> Vec<usize>;
    fn n_slots(&self) -> usize;
    fn name(&self, slot: usize) -> &str;
    fn slot(&self, name: &str) -> Result<usize, ExecError>;
    fn constant(&self, slot: usize) -> Option<&Value>;
    fn is_output(&self, slot: usize) -> bool;
}

impl Stepwise for Program {
    fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    fn reads(&self, step: usize) -> Few<usize> {
        let inputs = self.steps[step].inputs.iter().flatten().copied();
        inputs.filter(|&slot| self.constants[slot].is_none()).collect()
    }

    fn writes(&self, step: usize) -> Few<usize> {
        self.steps[step].outputs.iter().flatten().copied().collect()
    }

    fn run<'v>(
        &self,
        members: &[usize],
        value: &dyn Fn(usize) -> Option<&'v Value>,
        keeps: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Ran, ExecError> {
        chain::run(&self.steps, members, value, keeps, None)
    }

    fn node_idxs(&self, step: usize) -> Vec<usize> {
        vec![self.steps[step].node_idx]
    }

    fn n_slots(&self) -> usize {
        Self::n_slots(self)
    }

    fn name(&self, slot: usize) -> &str {
        Self::name(self, slot)
    }

    fn slot(&self, name: &str) -> Result<usize, ExecError> {
        Self::slot(self, name)
    }

    fn constant(&self, slot: usize) -> Option<&Value> {
        self.constants[slot].as_ref()
    }

    fn is_output(&self, slot: usize) -> bool {
        let name = Self::name(self, slot);
        self.graph().is_output(name)
    }
}

impl Stepwise for QuantizedProgram {
    fn groups(&self) -> &[Vec<usize>] {
        &self.singles
    }

    fn reads(&self, step: usize) -> Few<usize> {
        Few::from_slice(&self.unit_slots[step].0)
    }

    fn writes(&self, step: usize) -> Few<usize> {
        Few::from_slice(&self.unit_slots[step].1)
    }

    fn run<'v>(
        &self,
        members: &[usize],
        value: &dyn Fn(usize) -> Option<&'v Value>,
        _keeps: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Ran, ExecError> {
        let (unit, (inputs, outputs)) = (&self.units()[members[0]], &self.unit_slots[members[0]]);
        let arguments: Few<&Value> = inputs
            .iter()
            .map(|&slot| value(slot))
            .collect::<Option<_>>()
            .expect("invariant: what a step reads was computed before");
        Ok(Ran {
            steps: smallvec![members[0]],
            values: outputs.iter().copied().zip(unit.run(&arguments)?).collect(),
            passed: Vec::new(),
            rest: members[1..].to_vec(),
        })
    }

    fn node_idxs(&self, step: usize) -> Vec<usize> {
        self.units()[step].node_idxs().to_vec()
    }

    fn n_slots(&self) -> usize {
        self.names.len()
    }

    fn name(&self, slot: usize) -> &str {
        &self.names[slot]
    }

    fn slot(&self, name: &str) -> Result<usize, ExecError> {
        Self::slot(self, name)
    }

    fn constant(&self, slot: usize) -> Option<&Value> {
        self.constants[slot].as_ref()
    }

    fn is_output(&self, slot: usize) -> bool {
        self.outputs.contains(&self.names[slot])
    }
}

//! The golden run ahead of a run under test: how long it keeps a value, and what it hands to the comparisons.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{ExecError, Fact, Program, QuantizedProgram, Stepped, Stored, Unit, Value, Walk};
use qloupe_ir::Topology;
use qloupe_tensor::{DType, Element, Tensor};

use super::Few;
use super::places::Places;
use super::rows::{Seen, Shapes};
use super::stretch::{Expected, Job};
use crate::Error;
use crate::prepare::{Network, Prepared};
use crate::shapes;

/// Golden bytes that end a stretch: what is alive of three stretches stays in the L2 cache.
const STRETCH_BYTES: usize = 1 << 18;

/// The golden run, ahead of the run under test.
pub(super) struct Golden<'p> {
    walk: Walk<'p>,
    /// The golden program.
    golden: &'p Program,
    /// The program under test.
    program: &'p QuantizedProgram,
    places: &'p Places,
    /// The shapes that are known.
    known: &'p Shapes,
    /// What is not known yet.
    seen: Vec<Seen>,
    /// The local view is wanted.
    local: bool,
    /// Permuted values need not be measured.
    skips_permuted: bool,
    /// Golden values that a later unit reads or writes, in the units of the original, by their places in the program.
    values: Vec<Option<Value>>,
    /// The same in their forms.
    in_form: Vec<Option<Value>>,
    /// How many later units read or write a value.
    uses: Vec<usize>,
    /// The next unit.
    next: usize,
}

impl<'p> Golden<'p> {
    pub(super) fn new(
        walk: Walk<'p>,
        (golden, program): (&'p Program, &'p QuantizedProgram),
        places: &'p Places,
        known: &'p Shapes,
        (local, skips_permuted): (bool, bool),
    ) -> Self {
        let n_places = program.values().len();
        Self {
            walk,
            golden,
            program,
            places,
            known,
            seen: Vec::new(),
            local,
            skips_permuted,
            values: vec![None; n_places],
            in_form: vec![None; n_places],
            uses: places.uses.clone(),
            next: 0,
        }
    }

    /// Takes a network input, which is in its form already.
    ///
    /// # Errors
    /// A name that the golden program does not have.
    pub(super) fn give(&mut self, name: &str, golden: Stored, in_form: Stored) -> Result<(), ExecError> {
        self.keep(self.golden.slot(name)?, &golden.into());
        if let Some(place) = self.places.place(name).filter(|&place| self.uses[place] > 0) {
            self.in_form[place] = Some(in_form.into());
        }
        Ok(())
    }

    /// Keeps a golden value, given by its place in the golden program, for the units that need it.
    fn keep(&mut self, golden_place: usize, value: &Value) {
        for &place in &self.places.served[golden_place] {
            if self.uses[place] > 0 {
                self.values[place] = Some(value.clone());
            }
        }
    }

    /// True after the last unit.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.program.units().len()
    }

    /// Runs over the next units, some small ones or a large one.
    pub(super) fn stretch(&mut self) -> Result<Vec<Job>, ExecError> {
        let mut jobs = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < STRETCH_BYTES && !self.is_done() {
            let job = self.unit()?;
            n_bytes += job.size_bytes();
            jobs.push(job);
        }
        Ok(jobs)
    }

    fn unit(&mut self) -> Result<Job, ExecError> {
        let unit_idx = self.next;
        self.next += 1;
        let (program, unit) = (self.program, &*self.program.units()[unit_idx]);
        let (read, written) = program.places(unit_idx);
        self.advance(read, written)?;
        let inputs: Option<Vec<Value>> = read.iter().map(|&place| self.in_form[place].clone()).collect();
        let moved = self.moved(unit, inputs.as_deref(), read, written)?;
        for (idx, &place) in written.iter().enumerate() {
            self.in_form[place] = match (&moved, &self.values[place]) {
                (_, None) => None,
                (Some(moved), Some(_)) => Some(moved[idx].clone()),
                (None, Some(golden)) => Some(self.places.in_form(program, place, golden)),
            };
        }
        let outputs = written.iter().map(|&place| Expected {
            golden: self.values[place].clone(),
            once: self.in_form[place].clone(),
        });
        let outputs = outputs.collect();
        for &place in read.iter().chain(written) {
            self.uses[place] -= 1;
            if self.uses[place] == 0 {
                self.values[place] = None;
                self.in_form[place] = None;
            }
        }
        let permuted = moved.as_ref().and_then(|_| self.places.permuted[unit_idx]);
        let is_local = self.local && written.iter().any(|&place| self.places.rows[place].is_some());
        Ok(Job {
            unit_idx,
            permuted: permuted.filter(|_| self.skips_permuted),
            local: moved.filter(|_| is_local),
            inputs: inputs.filter(|_| is_local),
            outputs,
            entire: Vec::new(),
        })
    }

    /// What a unit that only moves values makes of golden inputs in their forms: golden outputs in theirs.
    fn moved(
        &self,
        unit: &Unit,
        inputs: Option<&[Value]>,
        read: &[usize],
        written: &[usize],
    ) -> Result<Option<Vec<Value>>, ExecError> {
        let is_half = |&place: &usize| self.places.half[place];
        match inputs {
            Some(inputs) if unit.only_moves() && !read.iter().chain(written).any(is_half) => {
                unit.run(&inputs.iter().collect::<Few<&Value>>()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Runs until the inputs and outputs of a unit are there, or to the end.
    fn advance(&mut self, read: &[usize], written: &[usize]) -> Result<(), ExecError> {
        while read
            .iter()
            .chain(written)
            .any(|&place| self.values[place].is_none())
        {
            let Some(stepped) = self.walk.step()? else { break };
            self.see(&stepped);
            for (place, value) in &stepped.values {
                self.keep(*place, value);
            }
        }
        Ok(())
    }

    /// Runs what no unit needs, and gives back what was not known.
    pub(super) fn finish(mut self) -> Result<Vec<Seen>, ExecError> {
        while let Some(stepped) = self.walk.step()? {
            self.see(&stepped);
        }
        Ok(self.seen)
    }

    fn see(&mut self, stepped: &Stepped<'_>) {
        let mut see = |place: usize, dtype, shape: &dyn Fn() -> Vec<usize>| {
            if !self.known.has(place) {
                self.seen.push(Seen {
                    place,
                    name: self.golden.name(place).to_owned(),
                    dtype,
                    shape: shape(),
                });
            }
        };
        for (place, value) in &stepped.values {
            if let Some(tensor) = value.as_tensor() {
                see(*place, tensor.dtype(), &|| tensor.shape());
            }
        }
        for (place, shape) in &stepped.passed {
            see(*place, DType::Float32, &|| shape.clone());
        }
    }
}

/// A float16 value as float32; others as they are.
pub(super) fn float32(stored: Stored) -> Stored {
    let numbers = stored.physical().as_slice::<half::f16>();
    let numbers = numbers.map(|values| values.iter().map(|v| v.to_f32()).collect());
    match numbers {
        Some(numbers) => with_numbers::<f32>(&stored, numbers),
        None => stored,
    }
}

/// Other numbers in the shape and the order of a value.
pub(super) fn with_numbers<T: Element>(like: &Stored, numbers: Vec<T>) -> Stored {
    let tensor = Tensor::new(like.physical().shape(), numbers).expect("invariant: as many numbers");
    Stored::of_call(tensor, like.layout())
}

/// Values that a model which another tool quantized computes in float16.
pub(super) fn half_values(prepared: &Prepared) -> BTreeSet<String> {
    if prepared.stored.is_none() {
        return BTreeSet::new();
    }
    let inferred = shapes::infer(&prepared.model, &BTreeMap::new());
    let facts = inferred.map(|inference| inference.facts).unwrap_or_default();
    let is_half = |fact: &Fact| fact.dtype == Some(DType::Float16);
    facts
        .into_iter()
        .filter(|(_, fact)| is_half(fact))
        .map(|(name, _)| name)
        .collect()
}

/// The network outputs, and the `tapped` values of a network, by their places in its program, that no output depends on.
pub(super) fn goals(network: &Network, tapped: &[bool]) -> Result<Vec<String>, Error> {
    let graph = &network.model.graph;
    let topology = Topology::new(graph).map_err(|source| Error::Graph {
        file: network.file.clone(),
        source,
    })?;
    let mut goals: Vec<&str> = graph.output_names().collect();
    let needed = topology.needed_for(graph, &goals, &BTreeSet::new()).values;
    let tapped = network.program.values().zip(tapped);
    let others = tapped.filter(|(name, is_tapped)| **is_tapped && !needed.contains(name));
    goals.extend(others.map(|(name, _)| name));
    Ok(goals.into_iter().map(str::to_owned).collect())
}

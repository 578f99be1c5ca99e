//! Partial re-execution on the golden values of one sample: from any changed value to any other, and any step alone.
//!
//! Golden values are kept within a memory limit; one that was let go is computed again from those that were kept. A
//! replay runs only what a change reaches, and ends where it makes no difference any more.

mod stepwise;

use std::collections::BTreeMap;
use std::time::Instant;

use qloupe_tensor::Tensor;

use stepwise::Stepwise;

use crate::{ExecError, Few, Program, QuantizedProgram, Value};

/// The golden values of one sample, and partial re-execution on them.
pub struct Replay<'p> {
    program: &'p dyn Stepwise,
    /// The steps of each group that an output needs, without the groups that none needs.
    groups: Vec<Vec<usize>>,
    /// Golden values that are in memory: the inputs always, the others within the limit.
    golden: Vec<Option<Value>>,
    /// Whether a value leaves its group: of the others golden ones may be in memory, changed ones never are.
    leaves: Vec<bool>,
    /// The step that writes a value.
    producer: Vec<Option<usize>>,
    /// The group of a step.
    group_of: Vec<usize>,
    /// The last group that reads a value.
    last_reader: Vec<usize>,
    n_recomputed: usize,
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// The goals, in the order they were named: changed, or golden.
    pub values: Vec<Value>,
    /// The steps that ran.
    pub n_steps: usize,
    /// The goals that are not golden bit for bit.
    pub changed: Vec<bool>,
}

impl std::fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl<'p> Replay<'p> {
    /// Runs a float program once. At most `limit_bytes` of golden values are kept, beside the inputs.
    ///
    /// # Errors
    /// As [`Program::walk`], or a node that fails.
    pub fn of_float(
        program: &'p Program,
        inputs: &[(String, Tensor)],
        limit_bytes: usize,
    ) -> Result<Self, ExecError> {
        Self::new(program, float_inputs(program, inputs)?, limit_bytes, false)
    }

    /// As [`Replay::of_float`], for use that asks for golden values of every kind: those that steps of one group hand to
    /// each other are kept, too.
    ///
    /// # Errors
    /// As [`Replay::of_float`].
    pub fn of_float_with_interiors(
        program: &'p Program,
        inputs: &[(String, Tensor)],
        limit_bytes: usize,
    ) -> Result<Self, ExecError> {
        Self::new(program, float_inputs(program, inputs)?, limit_bytes, true)
    }

    /// Runs a quantized program once, as [`Replay::of_float`] does. Values are in their forms.
    ///
    /// # Errors
    /// As [`QuantizedProgram::walk`], or a unit that fails.
    pub fn of_quantized(
        program: &'p QuantizedProgram,
        inputs: &[(String, Tensor)],
        limit_bytes: usize,
    ) -> Result<Self, ExecError> {
        let given = program.inputs_in_form(inputs)?;
        Self::new(program, given.into_iter().collect(), limit_bytes, false)
    }

    fn new(
        program: &'p dyn Stepwise,
        inputs: BTreeMap<usize, Value>,
        limit_bytes: usize,
        keeps_interiors: bool,
    ) -> Result<Self, ExecError> {
        let n_slots = program.n_slots();
        let groups = program.groups();
        let n_steps = groups.iter().map(Vec::len).sum();
        let mut replay = Self {
            program,
            groups: Vec::new(),
            golden: vec![None; n_slots],
            leaves: (0..n_slots).map(|slot| program.is_output(slot)).collect(),
            producer: vec![None; n_slots],
            group_of: vec![0; n_steps],
            last_reader: vec![0; n_slots],
            n_recomputed: 0,
        };
        for (group, members) in groups.iter().enumerate() {
            for &step in members {
                replay.group_of[step] = group;
                for slot in program.writes(step) {
                    replay.producer[slot] = Some(step);
                }
            }
        }
        for (group, members) in groups.iter().enumerate() {
            for slot in members.iter().flat_map(|&step| program.reads(step)) {
                replay.last_reader[slot] = group;
                let producer = replay.producer[slot];
                replay.leaves[slot] |= producer.is_none_or(|step| replay.group_of[step] != group);
            }
        }
        for (slot, value) in inputs {
            replay.golden[slot] = Some(value);
        }
        let outputs: Vec<usize> = (0..n_slots).filter(|&slot| program.is_output(slot)).collect();
        let needed = replay.needed_for(&outputs, &[]);
        let members = |group: &Vec<usize>| group.iter().copied().filter(|&step| needed[step]).collect();
        replay.groups = groups
            .iter()
            .map(members)
            .filter(|group: &Vec<usize>| !group.is_empty())
            .collect();
        replay.run_golden(limit_bytes, keeps_interiors)?;
        Ok(replay)
    }

    /// The golden run. Over the limit, what took the least time for its size goes first.
    fn run_golden(&mut self, limit_bytes: usize, keeps_interiors: bool) -> Result<(), ExecError> {
        let mut kept: Vec<(usize, f64)> = Vec::new();
        let mut kept_bytes = 0;
        let mut values = self.golden.clone();
        for members in self.groups.clone() {
            let group = self.group_of[members[0]];
            let start = Instant::now();
            let interiors: Vec<usize> = if keeps_interiors {
                members
                    .iter()
                    .flat_map(|&step| self.program.writes(step))
                    .collect()
            } else {
                Vec::new()
            };
            let results = self.run_members(&members, &|slot| values[slot].as_ref(), &interiors)?;
            let seconds = start.elapsed().as_secs_f64();
            for (slot, value) in results {
                if keeps_interiors || self.leaves[slot] {
                    kept_bytes += value.size_bytes();
                    kept.push((slot, seconds / value.size_bytes().max(1) as f64));
                    self.golden[slot] = Some(value.clone());
                    values[slot] = Some(value);
                }
            }
            while kept_bytes > limit_bytes {
                let cheapest = (0..kept.len()).min_by(|&a, &b| kept[a].1.total_cmp(&kept[b].1));
                let Some(cheapest) = cheapest else { break };
                let (slot, _) = kept.swap_remove(cheapest);
                kept_bytes -= self.golden[slot].take().map_or(0, |value| value.size_bytes());
            }
            for slot in members.iter().flat_map(|&step| self.program.reads(step)) {
                if self.last_reader[slot] == group {
                    values[slot] = None;
                }
            }
        }
        Ok(())
    }

    /// Runs steps of one group, all of them; `goals` come out even if they do not leave the group.
    fn run_members<'v>(
        &self,
        members: &[usize],
        value: &dyn Fn(usize) -> Option<&'v Value>,
        goals: &[usize],
    ) -> Result<Vec<(usize, Value)>, ExecError> {
        let mut results: Vec<(usize, Value)> = Vec::new();
        let mut left: Few<usize> = Few::from_slice(members);
        while !left.is_empty() {
            let keeps = |slot: usize, readers: usize| {
                let reads = |&step: &usize| {
                    self.program
                        .reads(step)
                        .iter()
                        .filter(|&&read| read == slot)
                        .count()
                };
                self.leaves[slot] || goals.contains(&slot) || left.iter().map(reads).sum::<usize>() > readers
            };
            let ran = {
                // Results of this group live as long as this call; the lookup hands them out for as long as it runs.
                let found = |slot: usize| {
                    results
                        .iter()
                        .find(|(result, _)| *result == slot)
                        .map(|(_, value)| value)
                };
                let look_up = |slot: usize| {
                    found(slot)
                        .or_else(|| value(slot))
                        .or_else(|| self.program.constant(slot))
                };
                self.program.run(&left, &look_up, &keeps)?
            };
            results.extend(ran.values);
            left = ran.rest.into();
        }
        Ok(results)
    }

    /// Bytes of the golden values in memory.
    pub fn bytes(&self) -> usize {
        self.golden.iter().flatten().map(Value::size_bytes).sum()
    }

    /// How many steps were run to get golden values back that the limit let go.
    pub fn n_recomputed(&self) -> usize {
        self.n_recomputed
    }

    /// The golden value of a name, computed again if it is not in memory.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`]; a value that depends on an input that was not given.
    pub fn golden(&mut self, name: &str) -> Result<Value, ExecError> {
        let slot = self.program.slot(name)?;
        self.golden_at(&[slot])?
            .remove(&slot)
            .ok_or_else(|| not_computed(name))
    }

    /// The golden values of slots: those in memory, and the others from what they depend on.
    fn golden_at(&mut self, wanted: &[usize]) -> Result<BTreeMap<usize, Value>, ExecError> {
        let known = |replay: &Self, slot: usize| {
            let golden = replay.golden[slot].as_ref();
            golden.or_else(|| replay.program.constant(slot)).cloned()
        };
        let mut values = BTreeMap::new();
        let mut needed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut goals = Vec::new();
        let mut open = wanted.to_vec();
        while let Some(slot) = open.pop() {
            if values.contains_key(&slot) || goals.contains(&slot) {
                continue;
            }
            if let Some(value) = known(self, slot) {
                values.insert(slot, value);
                continue;
            }
            let step = self.producer[slot].ok_or_else(|| not_computed(self.program.name(slot)))?;
            goals.push(slot);
            let members = needed.entry(self.group_of[step]).or_default();
            if !members.contains(&step) {
                members.push(step);
                open.extend(self.program.reads(step));
            }
        }
        for mut members in needed.into_values() {
            members.sort_unstable();
            self.n_recomputed += members.len();
            let results = self.run_members(&members, &|slot| values.get(&slot), &goals)?;
            values.extend(results);
        }
        Ok(values)
    }

    /// The names of the steps' results, group by group: what [`Replay::alone`] counts.
    pub fn groups(&self) -> Vec<Vec<&str>> {
        let names = |members: &Vec<usize>| {
            let slots = members.iter().flat_map(|&step| self.program.writes(step));
            let leaving = slots.filter(|&slot| self.leaves[slot]);
            leaving.map(|slot| self.program.name(slot)).collect()
        };
        self.groups.iter().map(names).collect()
    }

    /// The nodes of each group in the graph.
    pub fn node_idxs(&self) -> Vec<Vec<usize>> {
        let nodes = |members: &Vec<usize>| {
            members
                .iter()
                .flat_map(|&step| self.program.node_idxs(step))
                .collect()
        };
        self.groups.iter().map(nodes).collect()
    }

    /// Runs one group of steps alone on golden values; gives its results.
    ///
    /// # Errors
    /// A step that fails.
    pub fn alone(&mut self, group: usize) -> Result<Vec<Value>, ExecError> {
        let program = self.program;
        let members: Few<usize> = Few::from_slice(&self.groups[group]);
        let in_memory = |slot: &usize| self.golden[*slot].is_some() || program.constant(*slot).is_some();
        let own: Few<usize> = members.iter().flat_map(|&step| program.writes(step)).collect();
        let read = members.iter().flat_map(|&step| program.reads(step));
        let missing: Few<usize> = read
            .filter(|slot| !own.contains(slot) && !in_memory(slot))
            .collect();
        let again = self.golden_at(&missing)?;
        let value = |slot: usize| {
            self.golden[slot]
                .as_ref()
                .filter(|_| !own.contains(&slot))
                .or_else(|| again.get(&slot))
        };
        let results = self.run_members(&members, &value, &[])?;
        Ok(results.into_iter().map(|(_, value)| value).collect())
    }

    /// Re-executes what `changed` values reach, as far as `goals` need it. A value that comes out golden again, bit for
    /// bit, reaches nothing.
    ///
    /// # Errors
    /// Unknown names, a step that fails.
    pub fn run(&mut self, changed: Vec<(String, Value)>, goals: &[&str]) -> Result<Replayed, ExecError> {
        let program = self.program;
        let goals = goals
            .iter()
            .map(|goal| program.slot(goal))
            .collect::<Result<Vec<_>, _>>()?;
        let mut given = Vec::new();
        for (name, value) in changed {
            given.push((program.slot(&name)?, value));
        }
        let is_given: Vec<usize> = given.iter().map(|(slot, _)| *slot).collect();
        let needed = self.needed_for(&goals, &is_given);
        let mut values: BTreeMap<usize, Value> = BTreeMap::new();
        // A change ends a group after the last that reads it; nothing is left to do when the last change has ended.
        let mut end = 0;
        for (slot, value) in given {
            if self.differs(slot, &value) {
                end = end.max(self.last_reader[slot] + 1);
                values.insert(slot, value);
            }
        }
        let mut n_steps = 0;
        let mut group = 0;
        while group < end {
            let members = self.reached(&program.groups()[group], &values, &needed);
            if !members.is_empty() {
                n_steps += members.len();
                for (slot, value) in self.run_changed(&members, &values, &goals)? {
                    if !is_given.contains(&slot) && self.differs(slot, &value) {
                        end = end.max(self.last_reader[slot] + 1);
                        values.insert(slot, value);
                    }
                }
            }
            values.retain(|slot, _| self.last_reader[*slot] > group || goals.contains(slot));
            group += 1;
        }
        let changed = goals.iter().map(|goal| values.contains_key(goal)).collect();
        let missing: Vec<usize> = goals
            .iter()
            .copied()
            .filter(|goal| !values.contains_key(goal))
            .collect();
        let golden = self.golden_at(&missing)?;
        let value = |goal: &usize| values.get(goal).or_else(|| golden.get(goal)).cloned();
        Ok(Replayed {
            values: goals
                .iter()
                .map(|goal| value(goal).ok_or_else(|| not_computed(program.name(*goal))))
                .collect::<Result<_, _>>()?,
            n_steps,
            changed,
        })
    }

    /// The steps that goals need, given some values.
    fn needed_for(&self, goals: &[usize], given: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.group_of.len()];
        let mut open = goals.to_vec();
        while let Some(slot) = open.pop() {
            if given.contains(&slot) {
                continue;
            }
            if let Some(step) = self.producer[slot].filter(|&step| !needed[step]) {
                needed[step] = true;
                open.extend(self.program.reads(step));
            }
        }
        needed
    }

    /// The members of a group that a change reaches.
    fn reached(&self, members: &[usize], values: &BTreeMap<usize, Value>, needed: &[bool]) -> Vec<usize> {
        let mut written = Vec::new();
        let mut reached = Vec::new();
        for &step in members {
            let reads = self.program.reads(step);
            let is_reached = reads
                .iter()
                .any(|slot| values.contains_key(slot) || written.contains(slot));
            if is_reached && needed[step] {
                written.extend(self.program.writes(step));
                reached.push(step);
            }
        }
        reached
    }

    /// Runs members of a group on changed values, and golden ones beside them.
    fn run_changed(
        &mut self,
        members: &[usize],
        values: &BTreeMap<usize, Value>,
        goals: &[usize],
    ) -> Result<Vec<(usize, Value)>, ExecError> {
        let own: Vec<usize> = members
            .iter()
            .flat_map(|&step| self.program.writes(step))
            .collect();
        let read = members.iter().flat_map(|&step| self.program.reads(step));
        let missing: Vec<usize> = read
            .filter(|slot| !own.contains(slot) && !values.contains_key(slot) && self.golden[*slot].is_none())
            .collect();
        let again = self.golden_at(&missing)?;
        let value = |slot: usize| {
            if own.contains(&slot) {
                return None;
            }
            let changed = values.get(&slot).or_else(|| self.golden[slot].as_ref());
            changed.or_else(|| again.get(&slot))
        };
        self.run_members(members, &value, goals)
    }

    /// True for a value that is not the golden one bit for bit, as far as that is in memory.
    fn differs(&self, slot: usize, value: &Value) -> bool {
        let golden = self.golden[slot].as_ref();
        golden.is_none_or(|golden| !golden.same_bits(value))
    }
}

/// The inputs by slot, checked.
fn float_inputs(program: &Program, inputs: &[(String, Tensor)]) -> Result<BTreeMap<usize, Value>, ExecError> {
    // A walk checks what it is given.
    program.walk(inputs.to_vec(), &[])?;
    let slot = |(name, tensor): &(String, Tensor)| Ok((program.slot(name)?, tensor.clone().into()));
    inputs.iter().map(slot).collect()
}

fn not_computed(name: &str) -> ExecError {
    ExecError::UnknownValue {
        name: name.to_owned(),
        help: ", it depends on an input that was not given".to_owned(),
    }
}

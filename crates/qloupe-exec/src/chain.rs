//! Chains of nodes: a convolution or product and the element-wise nodes after it, run by one kernel call.
//!
//! Which nodes may follow one another is decided when a program is made; whether they do, when it runs and shapes are
//! known. A node that cannot follow runs afterwards, on its own or at the head of a chain.

use std::collections::{BTreeSet, HashMap};

use qloupe_kernels::{ChainStep, ConvF32, ConvGeometry, GemmF32, Head, Operand, Source, run_chain};
use qloupe_tensor::Tensor;
use smallvec::smallvec;

use crate::element_wise::{ElementSource, ElementSteps};
use crate::program::Step;
use crate::stored::broadcast_nhwc;
use crate::{ExecError, Few, Layout, Stored, Value, interrupt};

/// Nodes of the longest chain.
pub(crate) const MAX_NODES: usize = 16;

/// The kernel call with which a chain begins.
#[derive(Debug)]
pub struct ChainHead<'a> {
    /// The shape of its result, in the physical order of the call.
    pub(crate) shape: Vec<usize>,
    pub(crate) kernel: HeadKernel<'a>,
}

#[derive(Debug)]
pub(crate) enum HeadKernel<'a> {
    Conv(&'a ConvF32, &'a [f32], ConvGeometry),
    Product(&'a GemmF32, &'a [f32], usize),
}

/// Groups steps: each group is one that may be the head of a chain, and the element-wise steps that may follow it.
/// The groups are in the order of their first steps.
pub(crate) fn group(steps: &[Step], n_slots: usize) -> Vec<Vec<usize>> {
    let mut producer = vec![None; n_slots];
    let mut consumers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        step.outputs
            .iter()
            .flatten()
            .for_each(|&slot| producer[slot] = Some(i));
        for &slot in step.inputs.iter().flatten() {
            consumers.entry(slot).or_default().push(i);
        }
    }
    let mut grouped = vec![false; steps.len()];
    let mut groups = Vec::new();
    for first in 0..steps.len() {
        if grouped[first] {
            continue;
        }
        grouped[first] = true;
        let mut members = vec![first];
        if steps[first].call.may_begin_chain() {
            let followers = |step: usize| {
                steps[step]
                    .outputs
                    .iter()
                    .flatten()
                    .filter_map(|slot| consumers.get(slot))
            };
            let mut candidates: BTreeSet<usize> = followers(first).flatten().copied().collect();
            while let Some(candidate) = candidates.pop_first() {
                // What it reads is a member's, or there before the first member runs.
                let is_ready = steps[candidate].inputs.iter().flatten().all(|&slot| {
                    producer[slot].is_none_or(|step: usize| step < first || members.contains(&step))
                });
                let follows = steps[candidate].call.elements().is_some() && !grouped[candidate];
                if is_ready && follows && members.len() < MAX_NODES {
                    grouped[candidate] = true;
                    members.push(candidate);
                    candidates.extend(followers(candidate).flatten());
                }
            }
        }
        groups.push(members);
    }
    groups
}

/// What ran of a group.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The steps that ran.
    pub(crate) steps: Few<usize>,
    /// The values that were kept.
    pub(crate) values: Vec<(usize, Value)>,
    /// float32 values that were computed and not kept, with their shapes in ONNX order.
    pub(crate) passed: Vec<(usize, Vec<usize>)>,
    /// The steps that could not follow.
    pub(crate) rest: Vec<usize>,
}

/// Sees every float32 value that is computed, in pieces: its place among the values of the program, and some elements.
/// Threads call it at once, in no order.
pub type Watch<'a> = dyn Fn(usize, &[f32]) + Sync + 'a;

/// Runs the beginning of a group: its first step, and those that can follow it.
///
/// `value` looks up what is there already; `keeps(slot, readers)` says whether a result that `readers` steps of the chain
/// read is wanted beyond them.
pub(crate) fn run<'v>(
    steps: &[Step],
    members: &[usize],
    value: &dyn Fn(usize) -> Option<&'v Value>,
    keeps: &dyn Fn(usize, usize) -> bool,
    watch: Option<&Watch<'_>>,
) -> Result<Ran, ExecError> {
    interrupt::check()?;
    let (&first, followers) = members.split_first().expect("invariant: a group has a step");
    let step = &steps[first];
    let arguments: Few<Option<&Value>> = step.inputs.iter().map(|slot| value((*slot)?)).collect();
    if let Some(ran) = run_as_chain(steps, first, followers, &arguments, value, (keeps, watch))? {
        return Ok(ran);
    }
    let results = step.call.run(&arguments)?;
    Ok(Ran::of_step(step, first, results, followers, watch))
}

impl Ran {
    /// A step that ran by itself, with the results of its outputs.
    pub(crate) fn of_step(
        step: &Step,
        step_idx: usize,
        results: Vec<Value>,
        rest: &[usize],
        watch: Option<&Watch<'_>>,
    ) -> Self {
        let values = step.outputs.iter().zip(results);
        let values = values.filter_map(|(slot, value)| Some(((*slot)?, value)));
        let watched = |(slot, value): &(usize, Value)| {
            let tensor = value.as_tensor();
            let floats = tensor.and_then(|tensor| tensor.physical().as_slice::<f32>());
            if let (Some(watch), Some(floats)) = (watch, floats) {
                watch(*slot, floats);
            }
        };
        Self {
            steps: smallvec![step_idx],
            values: values.inspect(watched).collect(),
            passed: Vec::new(),
            rest: rest.to_vec(),
        }
    }
}

/// Which results are kept, and what sees all of them.
type Fate<'a> = (&'a dyn Fn(usize, usize) -> bool, Option<&'a Watch<'a>>);

fn run_as_chain<'v>(
    steps: &[Step],
    first: usize,
    followers: &[usize],
    arguments: &[Option<&Value>],
    value: &dyn Fn(usize) -> Option<&'v Value>,
    fate: Fate<'_>,
) -> Result<Option<Ran>, ExecError> {
    let step = &steps[first];
    let call = &step.call;
    if !call.may_begin_chain() {
        return Ok(None);
    }
    let tensors: Option<Few<Option<&Stored>>> = arguments
        .iter()
        .map(|argument| argument.map_or(Some(None), |value| value.as_tensor().map(Some)))
        .collect();
    let Some(tensors) = tensors else {
        return Ok(None);
    };
    if let Some(elements) = call.elements() {
        let Some((mut chain, main_idx, main)) = Chain::of_values(&tensors) else {
            return Ok(None);
        };
        chain.input = step.inputs[main_idx];
        if !chain.follow(steps, first, elements, value) {
            return Ok(None);
        }
        let rest = chain.follow_all(steps, followers, value);
        let main = main.clone();
        let head = Head::Values(main.as_slice().unwrap_or_default());
        return Ok(Some(chain.run(steps, None, head, rest, fate)));
    }
    call.with_chain_head(&tensors, &mut |head, layout| {
        let (mut chain, kernel) = (Chain::new(head.shape, layout), head.kernel);
        if chain.n == 0 {
            return None;
        }
        let slot = step.outputs[0]?;
        chain.results.push((slot, Source::Head));
        let rest = chain.follow_all(steps, followers, value);
        let head = match &kernel {
            HeadKernel::Conv(conv, x, geometry) => Head::Conv(conv, x, geometry),
            HeadKernel::Product(gemm, a, m) => Head::Product(gemm, a, *m),
        };
        Some(chain.run(steps, Some(first), head, rest, fate))
    })
}

/// A chain that is being put together for values of one physical shape.
struct Chain {
    shape: Vec<usize>,
    layout: Layout,
    n: usize,
    /// The value that the chain begins with, if it was there already.
    input: Option<usize>,
    steps: Few<ChainStep>,
    operands: Few<Broadcast>,
    /// Results of nodes.
    results: Few<(usize, Source)>,
    /// The steps of the program that are in it.
    ran: Few<usize>,
}

/// A further operand of a chain.
struct Broadcast {
    values: Tensor,
    outer: usize,
    middle: usize,
    inner: usize,
}

impl Chain {
    fn new(shape: Vec<usize>, layout: Layout) -> Self {
        Self {
            n: shape.iter().product(),
            shape,
            layout,
            input: None,
            steps: Few::new(),
            operands: Few::new(),
            results: Few::new(),
            ran: Few::new(),
        }
    }

    /// A chain over the input of an element-wise node that has the shape of its output, in the order that the inputs are
    /// stored in.
    fn of_values<'a>(inputs: &[Option<&'a Stored>]) -> Option<(Self, usize, &'a Tensor)> {
        let present = || inputs.iter().copied().flatten();
        let nhwc = present().any(|x| x.layout() == Layout::Nhwc) && present().all(|x| x.rank() <= 4);
        let layout = if nhwc { Layout::Nhwc } else { Layout::Plain };
        // The others must broadcast to it, which is checked when they are bound.
        let size = |idx: usize| inputs[idx].map(|x| (x.rank(), x.physical().len()));
        let main_idx = (0..inputs.len()).rev().max_by_key(|&idx| size(idx))?;
        let main = inputs[main_idx]?.in_layout(layout);
        main.as_slice::<f32>().filter(|values| !values.is_empty())?;
        Some((Self::new(main.shape().to_vec(), layout), main_idx, main))
    }

    /// Adds all nodes that can follow; the others come back.
    fn follow_all<'v>(
        &mut self,
        steps: &[Step],
        members: &[usize],
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> Vec<usize> {
        let mut rest = Vec::new();
        for &member in members {
            let elements = steps[member].call.elements();
            if !elements.is_some_and(|elements| self.follow(steps, member, elements, value)) {
                rest.push(member);
            }
        }
        rest
    }

    /// Adds an element-wise node, if its operands fit.
    fn follow<'v>(
        &mut self,
        steps: &[Step],
        member: usize,
        elements: &ElementSteps,
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> bool {
        let (n_steps, n_operands) = (self.steps.len(), self.operands.len());
        for (function, sources) in &elements.0 {
            let sources = sources
                .each_ref()
                .map(|source| self.source(source, n_steps, &steps[member].inputs, value));
            let [Some(first), Some(second)] = sources else {
                self.steps.truncate(n_steps);
                self.operands.truncate(n_operands);
                return false;
            };
            self.steps.push(ChainStep {
                function: *function,
                sources: [first, second],
            });
        }
        if let Some(slot) = steps[member].outputs[0] {
            self.results.push((slot, Source::Step(self.steps.len() - 1)));
        }
        self.ran.push(member);
        true
    }

    fn source<'v>(
        &mut self,
        source: &ElementSource,
        n_steps: usize,
        inputs: &[Option<usize>],
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> Option<Source> {
        let broadcast = match source {
            ElementSource::Step(step) => return Some(Source::Step(n_steps + step)),
            ElementSource::Channels(values) => self.channels(values)?,
            ElementSource::Input(idx) => {
                let slot = (*inputs.get(*idx)?)?;
                if self.input == Some(slot) {
                    return Some(Source::Head);
                }
                if let Some((_, source)) = self.results.iter().find(|(result, _)| *result == slot) {
                    return Some(*source);
                }
                self.operand(value(slot)?.as_tensor()?)?
            }
        };
        self.operands.push(broadcast);
        Some(Source::Operand(self.operands.len() - 1))
    }

    fn channels(&self, values: &[f32]) -> Option<Broadcast> {
        let axis = match self.layout {
            Layout::Nhwc => self.shape.len().checked_sub(1)?,
            Layout::Plain => 1,
        };
        (self.shape.get(axis) == Some(&values.len())).then(|| Broadcast {
            values: Tensor::vector(values.to_vec()),
            outer: values.len(),
            middle: self.shape[axis + 1..].iter().product(),
            inner: 1,
        })
    }

    /// A tensor as an operand, if it broadcasts to the shape in a pattern that kernels know.
    fn operand(&self, stored: &Stored) -> Option<Broadcast> {
        let values = match (self.layout, stored.rank()) {
            (Layout::Nhwc, 1..=3) => broadcast_nhwc(stored.to_plain()),
            (layout, _) => stored.in_layout(layout).clone(),
        };
        values.as_slice::<f32>()?;
        let missing = self.shape.len().checked_sub(values.rank())?;
        let (mut outer, mut middle, mut inner) = (1, 1, 1);
        let mut phase = 0;
        for axis in (0..self.shape.len()).rev() {
            let size = self.shape[axis];
            let own = if axis < missing {
                1
            } else {
                values.shape()[axis - missing]
            };
            if size == 1 && own == 1 {
                continue;
            }
            if own != size && own != 1 {
                return None;
            }
            // From the last axis on: equal axes, axes of one element, equal ones again, and then axes of one element.
            let next = match (phase, own == size) {
                (0, true) => 0,
                (0 | 1, false) => 1,
                (1 | 2, true) => 2,
                (2 | 3, false) => 3,
                _ => return None,
            };
            phase = next;
            match phase {
                0 => inner *= size,
                1 => middle *= size,
                2 => outer *= size,
                _ => {}
            }
        }
        Some(Broadcast {
            values,
            outer,
            middle,
            inner,
        })
    }

    /// Runs the chain. `head`: the step of the program that is its head, if it is not a value that was there.
    fn run(
        self,
        steps: &[Step],
        head_step: Option<usize>,
        head: Head<'_>,
        rest: Vec<usize>,
        (keeps, watch): Fate<'_>,
    ) -> Ran {
        let operands: Few<Operand<'_>> = self
            .operands
            .iter()
            .map(|operand| {
                let values = operand.values.as_slice().unwrap_or_default();
                if values.len() == self.n {
                    Operand::full(values)
                } else {
                    Operand::new(values, operand.outer, operand.middle, operand.inner)
                }
            })
            .collect();
        let readers = |slot: usize| {
            let inputs = self
                .ran
                .iter()
                .flat_map(|&member| steps[member].inputs.iter().flatten());
            inputs.filter(|&&input| input == slot).count()
        };
        let position = |source: Source| match source {
            Source::Step(step) => step + 1,
            Source::Head | Source::Operand(_) => 0,
        };
        let mut keep: Few<bool> = smallvec![false; self.steps.len() + 1];
        for &(slot, source) in &self.results {
            keep[position(source)] |= keeps(slot, readers(slot));
        }
        keep[self.steps.len()] = true;
        let mut slots: Few<Option<usize>> = smallvec![None; keep.len()];
        for &(slot, source) in &self.results {
            slots[position(source)] = Some(slot);
        }
        let see = |result: usize, values: &[f32]| {
            if let (Some(watch), Some(slot)) = (watch, slots[result]) {
                watch(slot, values);
            }
        };
        let see: Option<&qloupe_kernels::Watch<'_>> = if watch.is_some() { Some(&see) } else { None };
        let mut kept = run_chain(head, &self.steps, &operands, &keep, see);
        let mut values = Vec::with_capacity(self.results.len());
        let mut passed = Vec::new();
        let shape = match (self.layout, self.shape.as_slice()) {
            (Layout::Nhwc, &[n, h, w, c]) => vec![n, c, h, w],
            (_, shape) => shape.to_vec(),
        };
        for &(slot, source) in &self.results {
            if let Some(buffer) = kept[position(source)].take() {
                let tensor = Tensor::new(&self.shape, buffer).expect("invariant: a chain has one shape");
                values.push((slot, Value::Tensor(Stored::of_call(tensor, self.layout))));
            } else {
                passed.push((slot, shape.clone()));
            }
        }
        Ran {
            steps: head_step.into_iter().chain(self.ran).collect(),
            values,
            passed,
            rest,
        }
    }
}

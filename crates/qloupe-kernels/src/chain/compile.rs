//! Deciding where each result of a chain lives, and which steps the kernels do on the way.

use smallvec::{SmallVec, smallvec};

use super::{ChainStep, ElementWise, Source};
use crate::{BinaryKernel, UnaryKernel};

/// One thing for each step, in place for short chains: a small network runs hundreds of them.
pub(super) type Few<T> = SmallVec<[T; 4]>;

/// Where a value lives while a block is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The buffer that the head reads from, not to be written.
    Input,
    /// The buffer of a kept result: 0 is the head's, then those of the steps.
    Kept(usize),
    /// A block of scratch.
    Scratch(usize),
    /// A further operand.
    Operand(usize),
}

/// What an instruction computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Unary(UnaryKernel),
    Binary(BinaryKernel),
    /// A sum, clipped.
    AddClip(f32, f32),
}

/// A step with its places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub(super) function: Function,
    pub(super) sources: [Place; 2],
    pub(super) to: Place,
    /// Which result it is: the head's is 0.
    pub(super) result: usize,
}

/// A chain, ready to run on blocks.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) instructions: Few<Instruction>,
    /// What the head clips its results to.
    pub(super) clamp: (f32, f32),
    /// The kept result whose buffer the head writes.
    pub(super) head: usize,
    pub(super) n_scratch: usize,
}

/// `computed`: the head writes its result, and can clip it. `watched`: every result must exist.
pub(super) fn compile(steps: &[ChainStep], keep: &[bool], computed: bool, watched: bool) -> Compiled {
    let mut steps: Few<ChainStep> = SmallVec::from_slice(steps);
    let mut gone: Few<bool> = smallvec![false; steps.len()];
    if !watched {
        fuse_silu(&mut steps, &mut gone, keep);
    }
    let clamp = if computed && !keep[0] && !watched {
        take_clamp(&mut steps, &mut gone, keep)
    } else {
        (f32::NEG_INFINITY, f32::INFINITY)
    };
    let clipped = if watched {
        smallvec![None; steps.len()]
    } else {
        fuse_clipped_sums(&mut steps, &mut gone, keep)
    };
    let last_use = last_uses(&steps, &gone);
    let last_step = (0..steps.len()).rev().find(|&i| !gone[i]);
    // Without a buffer of its own the head computes in that of the last step, or of the step that it took over.
    let head = if keep[0] { 0 } else { keep.len() - 1 };
    let head_place = if computed { Place::Kept(head) } else { Place::Input };
    let mut places: Few<Place> = smallvec![head_place; steps.len()];
    let mut free: Few<usize> = Few::new();
    let mut n_scratch = 0;
    let mut instructions = Few::new();
    for (i, step) in steps.iter().enumerate() {
        if gone[i] {
            continue;
        }
        let place = |source: Source| match source {
            Source::Head => head_place,
            Source::Step(step) => places[step],
            Source::Operand(operand) => Place::Operand(operand),
        };
        let sources = [place(step.sources[0]), place(step.sources[n_sources(step) - 1])];
        let to = if keep[i + 1] || Some(i) == last_step {
            Place::Kept(if keep[i + 1] { i + 1 } else { head })
        } else if let Some(slot) = free.pop() {
            Place::Scratch(slot)
        } else {
            n_scratch += 1;
            Place::Scratch(n_scratch - 1)
        };
        places[i] = to;
        for source in &step.sources[..n_sources(step)] {
            if let Source::Step(read) = *source
                && last_use[read] == i
                && let Place::Scratch(slot) = places[read]
                && !free.contains(&slot)
            {
                free.push(slot);
            }
        }
        instructions.push(Instruction {
            function: match (step.function, clipped[i]) {
                (_, Some((min, max))) => Function::AddClip(min, max),
                (ElementWise::Unary(kernel), None) => Function::Unary(kernel),
                (ElementWise::Binary(kernel), None) => Function::Binary(kernel),
            },
            sources,
            to,
            result: i + 1,
        });
    }
    Compiled {
        instructions,
        clamp,
        head,
        n_scratch,
    }
}

/// How many sources a step reads.
fn n_sources(step: &ChainStep) -> usize {
    match step.function {
        ElementWise::Unary(_) => 1,
        ElementWise::Binary(_) => 2,
    }
}

/// The steps that read a source.
fn readers(steps: &[ChainStep], gone: &[bool], source: Source) -> Few<usize> {
    let reads = |step: &ChainStep| step.sources[..n_sources(step)].contains(&source);
    (0..steps.len())
        .filter(|&i| !gone[i] && reads(&steps[i]))
        .collect()
}

fn last_uses(steps: &[ChainStep], gone: &[bool]) -> Few<usize> {
    (0..steps.len())
        .map(|i| readers(steps, gone, Source::Step(i)).last().copied().unwrap_or(i))
        .collect()
}

/// `x * sigmoid(x)` in one step where nobody wants the sigmoid.
fn fuse_silu(steps: &mut [ChainStep], gone: &mut [bool], keep: &[bool]) {
    for i in 0..steps.len() {
        if keep[i + 1] || steps[i].function != ElementWise::Unary(UnaryKernel::Sigmoid) {
            continue;
        }
        let (x, sigmoid) = (steps[i].sources[0], Source::Step(i));
        let [reader] = readers(steps, gone, sigmoid)[..] else {
            continue;
        };
        let product = &mut steps[reader];
        let is_silu = product.sources == [x, sigmoid] || product.sources == [sigmoid, x];
        if product.function == ElementWise::Binary(BinaryKernel::Mul) && is_silu {
            *product = ChainStep {
                function: ElementWise::Unary(UnaryKernel::Silu),
                sources: [x; 2],
            };
            gone[i] = true;
        }
    }
}

/// Sums of which only the clipped result is wanted become one step, in the place of the Relu or Clip: its bounds by step.
fn fuse_clipped_sums(steps: &mut [ChainStep], gone: &mut [bool], keep: &[bool]) -> Few<Option<(f32, f32)>> {
    let mut clipped: Few<Option<(f32, f32)>> = smallvec![None; steps.len()];
    for i in 0..steps.len() {
        if gone[i] || keep[i + 1] || steps[i].function != ElementWise::Binary(BinaryKernel::Add) {
            continue;
        }
        let [reader] = readers(steps, gone, Source::Step(i))[..] else {
            continue;
        };
        if let Some(clamp) = clamp_of(steps[reader].function) {
            clipped[reader] = Some(clamp);
            steps[reader] = steps[i];
            gone[i] = true;
        }
    }
    clipped
}

/// The bounds of a function that only clips.
fn clamp_of(function: ElementWise) -> Option<(f32, f32)> {
    match function {
        ElementWise::Unary(UnaryKernel::Relu) => Some((0.0, f32::INFINITY)),
        ElementWise::Unary(UnaryKernel::Clip { min, max }) => Some((min, max)),
        _ => None,
    }
}

/// The Relu or Clip that alone reads the head, if there is one: the head does it.
fn take_clamp(steps: &mut [ChainStep], gone: &mut [bool], keep: &[bool]) -> (f32, f32) {
    let none = (f32::NEG_INFINITY, f32::INFINITY);
    let [reader] = readers(steps, gone, Source::Head)[..] else {
        return none;
    };
    let Some(clamp) = clamp_of(steps[reader].function) else {
        return none;
    };
    // Its result is then the head's, which has no buffer of its own unless the chain ends here.
    let is_last = gone[reader + 1..].iter().all(|&gone| gone);
    if keep[reader + 1] && !is_last {
        return none;
    }
    gone[reader] = true;
    for step in steps.iter_mut() {
        for source in &mut step.sources {
            if *source == Source::Step(reader) {
                *source = Source::Head;
            }
        }
    }
    clamp
}

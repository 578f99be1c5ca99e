//! Running the steps of a chain on blocks.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::Watch;
use super::compile::{Compiled, Few, Function, Instruction, Place};
use super::operand::{BLOCK, Operand};
use crate::binary::{binary_block, binary_block_left, binary_block_right};
use crate::buffer::with_scratch;
use crate::multiversion::multiversion;
use crate::specification::clip;
use crate::unary::apply_in_place;
use crate::{Isa, parallel};

/// Elements that one thread takes of values that are there already.
const GRAIN: usize = 16 * BLOCK;

/// A compiled chain with its buffers.
pub(crate) struct Blocks<'a> {
    isa: Isa,
    compiled: &'a Compiled,
    input: Option<&'a [f32]>,
    operands: &'a [Operand<'a>],
    /// Buffers of `n` elements; null for results that nobody wants.
    results: Few<*mut f32>,
    n: usize,
    watch: Option<&'a Watch<'a>>,
}

// SAFETY: threads work on disjoint ranges of the buffers, as `Blocks::run` demands.
unsafe impl Sync for Blocks<'_> {}

impl<'a> Blocks<'a> {
    pub(super) fn new(
        isa: Isa,
        compiled: &'a Compiled,
        input: Option<&'a [f32]>,
        operands: &'a [Operand<'a>],
        results: Few<*mut f32>,
        n: usize,
        watch: Option<&'a Watch<'a>>,
    ) -> Self {
        let unfit = operands.iter().position(|operand| !operand.fits(n));
        assert_eq!(unfit, None, "an operand does not broadcast to {n} elements");
        Self {
            isa,
            compiled,
            input,
            operands,
            results,
            n,
            watch,
        }
    }

    /// True when nothing is to be done with the head's result.
    fn is_idle(&self) -> bool {
        self.compiled.instructions.is_empty() && self.watch.is_none()
    }

    /// The buffer that the head writes.
    pub(crate) fn head(&self) -> *mut f32 {
        self.results[self.compiled.head]
    }

    /// Lets `write` fill the head's buffer.
    ///
    /// # Safety
    /// Nobody else uses the buffer.
    pub(crate) unsafe fn fill(&self, write: impl FnOnce(&mut [f32])) {
        let head = self.head();
        // SAFETY: the buffer has `n` elements; zeros are values, so that a slice may hold them.
        unsafe {
            head.write_bytes(0, self.n);
            write(std::slice::from_raw_parts_mut(head, self.n));
        }
    }

    /// Runs the steps on everything, in parallel.
    ///
    /// # Safety
    /// The head's elements are written; nobody else uses the buffers.
    pub(crate) unsafe fn run_all(&self) {
        if self.is_idle() {
            return;
        }
        // SAFETY: the ranges are disjoint and cover everything once.
        let piece = |i: usize| unsafe { self.run(i * GRAIN..((i + 1) * GRAIN).min(self.n)) };
        let n_pieces = self.n.div_ceil(GRAIN);
        if parallel::runs_here(self.n) {
            (0..n_pieces).for_each(piece);
        } else {
            (0..n_pieces).into_par_iter().for_each(piece);
        }
    }

    /// Runs the steps on a range of elements.
    ///
    /// # Safety
    /// The head's elements of the range are written, each range is run once, and nobody else uses it.
    pub(crate) unsafe fn run(&self, range: Range<usize>) {
        if self.is_idle() {
            return;
        }
        let n_blocks = self.compiled.n_scratch + 3;
        with_scratch(n_blocks * BLOCK, |scratch: &mut [f32]| {
            let mut start = range.start;
            while start < range.end {
                let reach = self.operands.iter().map(|operand| operand.reach(start)).min();
                let n = reach.unwrap_or(BLOCK).min(BLOCK).min(range.end - start);
                if let (Some(watch), None) = (self.watch, self.input) {
                    // SAFETY: the caller's: the head's elements are written.
                    watch(0, unsafe {
                        std::slice::from_raw_parts(self.head().add(start), n)
                    });
                }
                for instruction in &self.compiled.instructions {
                    // SAFETY: the caller's; scratch has a block for each slot and three more.
                    let result = unsafe { self.step(instruction, start, n, scratch) };
                    if let Some(watch) = self.watch {
                        // SAFETY: the step wrote `n` elements there, and nothing else uses them now.
                        watch(instruction.result, unsafe {
                            std::slice::from_raw_parts(result, n)
                        });
                    }
                }
                start += n;
            }
        });
    }

    /// Runs a step on a block and gives its result.
    ///
    /// # Safety
    /// As [`Blocks::run`].
    unsafe fn step(
        &self,
        instruction: &Instruction,
        start: usize,
        n: usize,
        scratch: &mut [f32],
    ) -> *const f32 {
        let (slots, spare) = scratch.split_at_mut(self.compiled.n_scratch * BLOCK);
        let (first, rest) = spare.split_at_mut(BLOCK);
        let (second, copy) = rest.split_at_mut(BLOCK);
        let slots = slots.as_mut_ptr();
        let read = |place: Place, scratch: &mut [f32]| -> *const f32 {
            match place {
                Place::Input => self
                    .input
                    .map_or(std::ptr::null(), |input| input[start..][..n].as_ptr()),
                Place::Kept(idx) => self.results[idx].wrapping_add(start),
                Place::Scratch(slot) => slots.wrapping_add(slot * BLOCK),
                Place::Operand(idx) => self.operands[idx].block(start, n, scratch).as_ptr(),
            }
        };
        let to: *mut f32 = match instruction.to {
            Place::Kept(idx) => self.results[idx].wrapping_add(start),
            Place::Scratch(slot) => slots.wrapping_add(slot * BLOCK),
            Place::Input | Place::Operand(_) => {
                unreachable!("invariant: steps write results and scratch only")
            }
        };
        let a = read(instruction.sources[0], first);
        // SAFETY: every pointer is to `n` elements; different places do not overlap, and `to` is only read where it
        // is also the place of a source, through the one slice that is written.
        unsafe {
            match instruction.function {
                Function::Unary(kernel) => {
                    if !std::ptr::eq(a, to) {
                        std::ptr::copy_nonoverlapping(a, to, n);
                    }
                    apply_in_place(self.isa, kernel, std::slice::from_raw_parts_mut(to, n));
                }
                Function::Binary(_) | Function::AddClip(..) => {
                    let b = read(instruction.sources[1], second);
                    let slice = |from: *const f32| std::slice::from_raw_parts(from, n);
                    let (isa, function) = (self.isa, instruction.function);
                    match (std::ptr::eq(a, to), std::ptr::eq(b, to)) {
                        (false, false) => {
                            let to = std::slice::from_raw_parts_mut(to.cast(), n);
                            fresh(isa, function, slice(a), slice(b), to);
                        }
                        (true, false) => {
                            left(isa, function, std::slice::from_raw_parts_mut(to, n), slice(b));
                        }
                        (false, true) => {
                            right(isa, function, slice(a), std::slice::from_raw_parts_mut(to, n));
                        }
                        (true, true) => {
                            let to = std::slice::from_raw_parts_mut(to, n);
                            copy[..n].copy_from_slice(to);
                            left(isa, function, to, &copy[..n]);
                        }
                    }
                }
            }
        }
        to
    }
}

/// `to = function(a, b)`; every element is written.
fn fresh(isa: Isa, function: Function, a: &[f32], b: &[f32], to: &mut [MaybeUninit<f32>]) {
    match function {
        Function::Binary(kernel) => binary_block(isa, kernel, a, b, to),
        Function::AddClip(min, max) => clipped_sums(isa, a, b, (min, max), to),
        Function::Unary(_) => unreachable!("invariant: a function of two sources"),
    }
}

/// `a = function(a, b)`
fn left(isa: Isa, function: Function, a: &mut [f32], b: &[f32]) {
    match function {
        Function::Binary(kernel) => binary_block_left(isa, kernel, a, b),
        Function::AddClip(min, max) => add_clipped(isa, a, b, (min, max)),
        Function::Unary(_) => unreachable!("invariant: a function of two sources"),
    }
}

/// `b = function(a, b)`
fn right(isa: Isa, function: Function, a: &[f32], b: &mut [f32]) {
    match function {
        Function::Binary(kernel) => binary_block_right(isa, kernel, a, b),
        // A sum is the same either way.
        Function::AddClip(min, max) => add_clipped(isa, b, a, (min, max)),
        Function::Unary(_) => unreachable!("invariant: a function of two sources"),
    }
}

multiversion! {
    fn clipped_sums(a: &[f32], b: &[f32], clamp: (f32, f32), to: &mut [MaybeUninit<f32>]) {
        for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
            to.write(clip(a + b, clamp));
        }
    }
}

multiversion! {
    fn add_clipped(sums: &mut [f32], others: &[f32], clamp: (f32, f32)) {
        for (sum, &other) in sums.iter_mut().zip(others) {
            *sum = clip(*sum + other, clamp);
        }
    }
}

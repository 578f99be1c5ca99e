//! Chains: element-wise functions applied to values while they are in the cache, after the kernel that made them.
//!
//! A chain begins with a head: a convolution, a matrix product or a buffer. Its steps work on one block at a time, each
//! with the same kernel as a pass over the whole buffer, so that the bits are those of separate passes. Only results
//! that the caller keeps are written to memory.

mod block;
mod compile;
mod operand;

pub(crate) use block::Blocks;
pub use operand::Operand;

use crate::{BinaryKernel, ConvF32, ConvGeometry, GemmF32, Isa, UnaryKernel, isa};

/// An element-wise function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementWise {
    /// Of the first source.
    Unary(UnaryKernel),
    /// Of both sources.
    Binary(BinaryKernel),
}

/// What a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The result of the head.
    Head,
    /// The result of an earlier step.
    Step(usize),
    /// A further operand.
    Operand(usize),
}

/// One element-wise step. A function of one source ignores the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChainStep {
    /// What it computes.
    pub function: ElementWise,
    /// What it reads.
    pub sources: [Source; 2],
}

/// The beginning of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Head<'a> {
    /// Values that are there already.
    Values(&'a [f32]),
    /// The outputs of a convolution of `x`, NHWC.
    Conv(&'a ConvF32, &'a [f32], &'a ConvGeometry),
    /// The matrix product of `a`, with the given number of rows.
    Product(&'a GemmF32, &'a [f32], usize),
}

impl Head<'_> {
    /// Elements of the result.
    pub fn n_outputs(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Conv(_, _, geometry) => geometry.n_outputs(),
            Self::Product(gemm, _, m) => m * gemm.n_columns(),
        }
    }
}

/// What sees every result of a chain in pieces, while they are in the cache: the head's (0) and those of the steps (from 1
/// on). Threads call it at once, in no order.
pub type Watch<'a> = dyn Fn(usize, &[f32]) + Sync + 'a;

/// Runs a chain. `keep` says which results are wanted, the head's first and then those of the steps; they come back in
/// this order. The result of the last step must be wanted.
///
/// # Example
/// ```
/// use qloupe_kernels::{ChainStep, ElementWise, Head, Operand, Source, UnaryKernel, BinaryKernel, run_chain};
///
/// let relu = ChainStep { function: ElementWise::Unary(UnaryKernel::Relu), sources: [Source::Head; 2] };
/// let double = ChainStep {
///     function: ElementWise::Binary(BinaryKernel::Mul),
///     sources: [Source::Step(0), Source::Operand(0)],
/// };
/// let two = Operand::new(&[2.0], 1, 3, 1);
/// let head = Head::Values(&[-1.0, 0.5, 3.0]);
/// let results = run_chain(head, &[relu, double], &[two], &[false, false, true], None);
/// assert_eq!(results, [None, None, Some(vec![0.0, 1.0, 6.0])]);
/// ```
pub fn run_chain(
    head: Head<'_>,
    steps: &[ChainStep],
    operands: &[Operand<'_>],
    keep: &[bool],
    watch: Option<&Watch<'_>>,
) -> Vec<Option<Vec<f32>>> {
    run_chain_with_isa(isa(), head, steps, operands, keep, watch)
}

/// [`run_chain`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn run_chain_with_isa(
    isa: Isa,
    head: Head<'_>,
    steps: &[ChainStep],
    operands: &[Operand<'_>],
    keep: &[bool],
    watch: Option<&Watch<'_>>,
) -> Vec<Option<Vec<f32>>> {
    assert_eq!(
        keep.len(),
        steps.len() + 1,
        "what to keep: the head and every step"
    );
    assert_eq!(keep.last(), Some(&true), "the last result is kept");
    let n = head.n_outputs();
    let inputs = match head {
        Head::Values(values) => Some(values),
        Head::Conv(..) | Head::Product(..) => None,
    };
    let compiled = compile::compile(steps, keep, inputs.is_none(), watch.is_some());
    let mut kept: Vec<Option<Vec<f32>>> = keep
        .iter()
        .map(|&wanted| wanted.then(|| Vec::with_capacity(n)))
        .collect();
    if let (Some(values), Some(copy)) = (inputs, &mut kept[0]) {
        copy.extend_from_slice(values);
    }
    let results = kept
        .iter_mut()
        .map(|buffer| buffer.as_mut().map_or(std::ptr::null_mut(), Vec::as_mut_ptr))
        .collect();
    let blocks = Blocks::new(isa.require(), &compiled, inputs, operands, results, n, watch);
    // SAFETY: every buffer has room for `n` elements; the head writes its own, and then the steps write each of theirs.
    unsafe {
        match head {
            Head::Values(_) => blocks.run_all(),
            Head::Conv(conv, x, geometry) => conv.run_into(x, geometry, compiled.clamp, &blocks),
            Head::Product(gemm, a, m) => gemm.run_into(a, m, compiled.clamp, &blocks),
        }
    }
    for buffer in kept.iter_mut().flatten() {
        // SAFETY: as above, all `n` elements were written.
        unsafe { buffer.set_len(n) }
    }
    kept
}

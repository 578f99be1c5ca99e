//! Softmax over contiguous rows.

use crate::multiversion::multiversion;
use crate::{Isa, isa, math, parallel};

/// Partial sums of a row: element `i` goes to sum `i % LANES`, the sums are added as a tree.
const LANES: usize = 16;

/// Softmax of every row: `e^(x - max) / sum`.
///
/// # Numerics
/// The sum has 16 interleaved partial sums, added pairwise in a fixed tree: the same on every machine.
/// # Edge cases
/// A row with NaN is all NaN.
pub fn softmax_rows(x: &[f32], rows: usize, cols: usize, out: &mut [f32]) {
    softmax_rows_with_isa(isa(), x, rows, cols, out);
}

/// [`softmax_rows`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn softmax_rows_with_isa(isa: Isa, x: &[f32], rows: usize, cols: usize, out: &mut [f32]) {
    isa.require();
    assert_eq!(x.len(), rows * cols, "length of the input");
    assert_eq!(out.len(), rows * cols, "length of the output");
    parallel::zip_rows(x, cols, out, cols, |_, x, out| block(isa, x, cols, out));
}

multiversion! {
    fn block(x: &[f32], cols: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            row(x, out);
        }
    }
}

#[inline(always)]
fn row(x: &[f32], out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    // The last numbers are followed by -inf, of which e^x is 0.
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut max = last;
    for x in chunks {
        for i in 0..LANES {
            max[i] = larger(max[i], x[i]);
        }
    }
    let max = tree(max, larger);
    let mut sums = [0.0; LANES];
    let (out_chunks, out_rest) = out.as_chunks_mut::<LANES>();
    for (out, x) in out_chunks.iter_mut().zip(chunks) {
        for i in 0..LANES {
            out[i] = math::exp(x[i] - max);
            sums[i] += out[i];
        }
    }
    if !rest.is_empty() {
        for i in 0..LANES {
            last[i] = math::exp(last[i] - max);
            sums[i] += last[i];
        }
    }
    let sum = tree(sums, |a, b| a + b);
    for out in out_chunks {
        for out in out {
            *out /= sum;
        }
    }
    for (out, e) in out_rest.iter_mut().zip(last) {
        *out = e / sum;
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

//! Copies out of strided views: transpositions, slices and pieces of tensors of any element.

use rayon::prelude::*;

use crate::lookup::copy_rows;
use crate::{layout, parallel};

/// Merged axes of a view, and where each output starts in the input.
struct Plan {
    /// `(size, stride)`, outer axes first; never empty.
    axes: Vec<(usize, usize)>,
}

impl Plan {
    /// Drops axes of one element and joins neighbours that are one axis in the input.
    fn new(axes: &[(usize, usize)]) -> Self {
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(axes.len());
        for &(size, stride) in axes.iter().filter(|(size, _)| *size != 1) {
            match merged.last_mut() {
                Some(outer) if outer.1 == stride * size => *outer = (outer.0 * size, stride),
                _ => merged.push((size, stride)),
            }
        }
        if merged.is_empty() {
            merged.push((1, 1));
        }
        Self { axes: merged }
    }

    /// The input position of index `idx` over the first `n` axes.
    fn start(&self, mut idx: usize, n: usize) -> usize {
        let mut at = 0;
        for &(size, stride) in self.axes[..n].iter().rev() {
            at += idx % size * stride;
            idx /= size;
        }
        at
    }
}

/// Writes the elements of x at `sum(i * stride)` for the indices `i` of `axes` (`(size, stride)`, outer ones first), in
/// row-major order.
pub fn copy_strided<T: Copy + Send + Sync + 'static>(x: &[T], axes: &[(usize, usize)], out: &mut [T]) {
    let n: usize = axes.iter().map(|(size, _)| size).product();
    assert_eq!(out.len(), n, "length of the output");
    if out.is_empty() {
        return;
    }
    let last: usize = axes.iter().map(|(size, stride)| (size - 1) * stride).sum();
    assert!(last < x.len(), "element {last} of {}", x.len());
    let plan = Plan::new(axes);
    let n_axes = plan.axes.len();
    let (len, stride) = plan.axes[n_axes - 1];
    match plan.axes[..n_axes - 1] {
        [] if stride == 1 => parallel::zip_chunks(&x[..len], out, |x, out| out.copy_from_slice(x)),
        [.., (rows, row_stride)] if stride == 1 => {
            blocks(&plan, n_axes - 2, rows, len, out, |at, row, out| {
                copy_rows(&x[at + row * row_stride..], row_stride, len, out);
            });
        }
        [.., (rows, 1)] if stride > 1 => {
            blocks(&plan, n_axes - 2, rows, len, out, |at, row, out| {
                layout::transpose(&x[at..], len, stride, row, out);
            });
        }
        _ => blocks(&plan, n_axes - 1, 1, len, out, |at, _, out| {
            for (out, x) in out.iter_mut().zip(x[at..].iter().step_by(stride.max(1))) {
                *out = *x;
            }
            if stride == 0 {
                out.fill(x[at]);
            }
        }),
    }
}

/// Calls `f(position in the input, first row, rows of the output)` for pieces of the blocks `[rows, len]` under the first
/// `n_outer` axes.
fn blocks<T: Send>(
    plan: &Plan,
    n_outer: usize,
    rows: usize,
    len: usize,
    out: &mut [T],
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let block = rows * len;
    if parallel::runs_here(out.len()) {
        for (i, out) in out.chunks_exact_mut(block).enumerate() {
            f(plan.start(i, n_outer), 0, out);
        }
        return;
    }
    // Whole squares of a transposition.
    let rows_of_part = (parallel::GRAIN / len).div_ceil(16) * 16;
    out.par_chunks_exact_mut(block)
        .enumerate()
        .with_min_len((parallel::GRAIN / block).max(1))
        .for_each(|(i, out)| {
            let at = plan.start(i, n_outer);
            if block <= parallel::GRAIN {
                f(at, 0, out);
            } else {
                out.par_chunks_mut(rows_of_part.max(16) * len)
                    .enumerate()
                    .for_each(|(part, out)| f(at, part * rows_of_part.max(16), out));
            }
        });
}

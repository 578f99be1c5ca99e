//! Rows: a tensor seen as `[outer, n, inner]` around an axis, and loops over its rows of `n` elements.

use rayon::prelude::*;

/// From how many elements on the work is shared among threads.
const PARALLEL: usize = 32_768;

/// A shape around one axis, or around a run of axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// The product of the dimensions before.
    pub(super) outer: usize,
    /// The product of the dimensions of the axes.
    pub(super) n: usize,
    /// The product of the dimensions after.
    pub(super) inner: usize,
}

impl Around {
    /// Splits a shape around the axes `start..end`.
    pub(super) fn axes(shape: &[usize], start: usize, end: usize) -> Self {
        Self {
            outer: shape[..start].iter().product(),
            n: shape[start..end].iter().product(),
            inner: shape[end..].iter().product(),
        }
    }

    /// The elements with every row contiguous.
    pub(super) fn gather<T: Copy>(self, x: &[T]) -> Vec<T> {
        exchange(x, self.n, self.inner)
    }

    /// The inverse of [`Around::gather`].
    pub(super) fn scatter<T: Copy>(self, rows: &[T]) -> Vec<T> {
        exchange(rows, self.inner, self.n)
    }
}

/// `[.., a, b]` as `[.., b, a]`.
fn exchange<T: Copy>(x: &[T], a: usize, b: usize) -> Vec<T> {
    if a <= 1 || b <= 1 || x.is_empty() {
        return x.to_vec();
    }
    let mut out = Vec::with_capacity(x.len());
    for matrix in x.chunks_exact(a * b) {
        for j in 0..b {
            out.extend(matrix[j..].iter().step_by(b));
        }
    }
    out
}

/// Calls `f` with the index of every chunk of `row` elements of `out`, in parallel where `work` elements are much.
pub(super) fn for_each_row<T: Send>(
    out: &mut [T],
    row: usize,
    work: usize,
    f: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if work < PARALLEL {
        out.chunks_mut(row.max(1))
            .enumerate()
            .for_each(|(i, out)| f(i, out));
    } else {
        out.par_chunks_mut(row.max(1))
            .enumerate()
            .for_each(|(i, out)| f(i, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_and_scattered_back() {
        let around = Around::axes(&[2, 3, 2], 1, 2);
        let x: Vec<u8> = (0..12).collect();
        let rows = around.gather(&x);
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert_eq!(around.scatter(&rows), x);
    }
}

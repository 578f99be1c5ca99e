//! Splitting element-wise work over the current rayon pool, without spawning for little of it.

use rayon::prelude::*;

/// Elements of one task; fewer run where they are.
pub(crate) const GRAIN: usize = 1 << 15;

/// Calls `f(chunk of x, chunk of out)` over chunks of equal position and length.
pub(crate) fn zip_chunks<A: Sync, B: Send>(x: &[A], out: &mut [B], f: impl Fn(&[A], &mut [B]) + Sync) {
    assert_eq!(x.len(), out.len(), "length of the output");
    if runs_here(out.len()) {
        f(x, out);
    } else {
        x.par_chunks(GRAIN)
            .zip(out.par_chunks_mut(GRAIN))
            .for_each(|(x, out)| f(x, out));
    }
}

/// Calls `f(chunk of a, chunk of b, chunk of out)` over chunks of equal position and length.
pub(crate) fn zip3_chunks<A: Sync, B: Sync, C: Send>(
    a: &[A],
    b: &[B],
    out: &mut [C],
    f: impl Fn(&[A], &[B], &mut [C]) + Sync,
) {
    assert_eq!(a.len(), out.len(), "length of the output");
    assert_eq!(b.len(), out.len(), "length of the second operand");
    if runs_here(out.len()) {
        f(a, b, out);
    } else {
        a.par_chunks(GRAIN)
            .zip(b.par_chunks(GRAIN))
            .zip(out.par_chunks_mut(GRAIN))
            .for_each(|((a, b), out)| f(a, b, out));
    }
}

/// Calls `f(index of the first row, rows of x, rows of out)` for blocks of whole rows.
pub(crate) fn zip_rows<A: Sync, B: Send>(
    x: &[A],
    x_row: usize,
    out: &mut [B],
    out_row: usize,
    f: impl Fn(usize, &[A], &mut [B]) + Sync,
) {
    if out.is_empty() || x_row == 0 || out_row == 0 {
        return;
    }
    let rows = (GRAIN / x_row.max(out_row)).max(1);
    if runs_here(x.len().max(out.len())) {
        f(0, x, out);
    } else {
        x.par_chunks(rows * x_row)
            .zip(out.par_chunks_mut(rows * out_row))
            .enumerate()
            .for_each(|(i, (x, out))| f(i * rows, x, out));
    }
}

/// Calls `f` on chunks in place and merges what it returns, in order.
pub(crate) fn fold_chunks_mut<A: Send, R: Send>(
    values: &mut [A],
    f: impl Fn(&mut [A]) -> R + Sync,
    merge: impl Fn(R, R) -> R,
) -> R {
    if runs_here(values.len()) {
        return f(values);
    }
    let parts: Vec<R> = values.par_chunks_mut(GRAIN).map(&f).collect();
    parts
        .into_iter()
        .reduce(merge)
        .expect("invariant: there is a chunk")
}

/// Calls `f` on chunks and merges what it returns, in order.
pub(crate) fn fold_chunks<A: Sync, R: Send>(
    values: &[A],
    f: impl Fn(&[A]) -> R + Sync,
    merge: impl Fn(R, R) -> R,
) -> R {
    if runs_here(values.len()) {
        return f(values);
    }
    let parts: Vec<R> = values.par_chunks(GRAIN).map(&f).collect();
    parts
        .into_iter()
        .reduce(merge)
        .expect("invariant: there is a chunk")
}

/// True when splitting `n_elements` would not pay.
pub(crate) fn runs_here(n_elements: usize) -> bool {
    n_elements <= 2 * GRAIN || rayon::current_num_threads() == 1
}

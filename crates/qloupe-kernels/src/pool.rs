//! Pools over NHWC f32 activations. Maxima run in the order (kh, kw), means down the columns of the kernel first; padding
//! takes no part.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::{PoolGeometry, isa, parallel};

/// The largest value under the kernel; NaN wins. A window without a pixel gives -inf.
pub fn max_pool(x: &[f32], geometry: &PoolGeometry, out: &mut [f32]) {
    let isa = isa();
    let larger = |out: f32, x: f32| if out > x || out.is_nan() { out } else { x };
    pool(x, geometry, f32::NEG_INFINITY, out, |out, x| {
        fold_pixel(isa, out, x, larger)
    });
}

/// The sum under the kernel, first down its columns and then across them, divided by the number of pixels in it; with `count_include_pad`
/// by those of the padded image in it.
pub fn average_pool(x: &[f32], geometry: &PoolGeometry, count_include_pad: bool, out: &mut [f32]) {
    let isa = isa();
    let g = geometry;
    let divide = |oy: usize, ox: usize, out: &mut [f32]| {
        let divisor = window_count(g, oy, ox, count_include_pad) as f32;
        for out in out {
            *out /= divisor;
        }
    };
    let add = |out: &mut [f32], x: &[f32]| fold_pixel(isa, out, x, |out: f32, x: f32| out + x);
    let row = |(i, out): (usize, &mut [f32])| {
        let (n, oy) = (i / g.oh, i % g.oh);
        let mut columns = vec![0.0; g.iw * g.c];
        for kh in 0..g.kh {
            let iy = oy * g.stride_h + kh * g.dilation_h;
            if iy >= g.pad_top && iy - g.pad_top < g.ih {
                add(
                    &mut columns,
                    &x[(n * g.ih + iy - g.pad_top) * g.iw * g.c..][..g.iw * g.c],
                );
            }
        }
        for (ox, out) in out.chunks_exact_mut(g.c).enumerate() {
            out.fill(0.0);
            for kw in 0..g.kw {
                let ix = ox * g.stride_w + kw * g.dilation_w;
                if ix >= g.pad_left && ix - g.pad_left < g.iw {
                    add(out, &columns[(ix - g.pad_left) * g.c..][..g.c]);
                }
            }
            divide(oy, ox, out);
        }
    };
    assert_eq!(x.len(), g.n_inputs(), "length of the input");
    assert_eq!(out.len(), g.n_outputs(), "length of the output");
    if out.is_empty() {
        return;
    }
    if parallel::runs_here(out.len()) {
        out.chunks_mut(g.ow * g.c).enumerate().for_each(row);
    } else {
        out.par_chunks_mut(g.ow * g.c).enumerate().for_each(row);
    }
}

/// The pixels under the kernel at output `(oy, ox)`; with `count_include_pad` those of the padded image.
pub(crate) fn window_count(g: &PoolGeometry, oy: usize, ox: usize, count_include_pad: bool) -> usize {
    let count = |at: usize, kernel: usize, dilation: usize, pad: (usize, usize), size: usize| {
        let inside = |tap: &usize| {
            let position = at + tap * dilation;
            if count_include_pad {
                position < pad.0 + size + pad.1
            } else {
                position >= pad.0 && position - pad.0 < size
            }
        };
        (0..kernel).filter(inside).count()
    };
    let rows = count(
        oy * g.stride_h,
        g.kh,
        g.dilation_h,
        (g.pad_top, g.pad_bottom),
        g.ih,
    );
    let columns = count(
        ox * g.stride_w,
        g.kw,
        g.dilation_w,
        (g.pad_left, g.pad_right),
        g.iw,
    );
    rows * columns
}

/// The mean of every channel of `n` images `[hw, c]`: the pixels are summed in order in f64, divided and rounded once.
/// An f32 sum over a large image would lose digits. Without a pixel the mean is NaN.
pub fn global_average_pool(x: &[f32], n: usize, hw: usize, c: usize, out: &mut [f32]) {
    let isa = isa();
    assert_eq!(x.len(), n * hw * c, "length of the input");
    assert_eq!(out.len(), n * c, "length of the output");
    if x.is_empty() {
        out.fill(f32::NAN);
        return;
    }
    parallel::zip_rows(x, hw * c, out, c, |_, x, out| {
        let mut sums = vec![0.0_f64; c];
        for (x, out) in x.chunks_exact(hw * c).zip(out.chunks_exact_mut(c)) {
            sums.fill(0.0);
            sum_rows(isa, x, &mut sums, |sum: f64, x: f32| sum + f64::from(x));
            for (out, sum) in out.iter_mut().zip(&sums) {
                *out = (sum / hw as f64) as f32;
            }
        }
    });
}

/// Rows that are summed at once, each in its own order.
const ROWS: usize = 8;

/// The mean of every row of `cols` numbers, as [`global_average_pool`] takes it: summed in order in f64.
pub fn row_means(x: &[f32], cols: usize, out: &mut [f32]) {
    assert_eq!(x.len(), out.len() * cols, "length of the input");
    if cols == 0 {
        out.fill(f32::NAN);
        return;
    }
    let isa = isa();
    parallel::zip_rows(x, cols, out, 1, |_, x, out| means(isa, x, cols, out));
}

multiversion! {
    fn means(x: &[f32], cols: usize, out: &mut [f32]) {
        for (x, out) in x.chunks(ROWS * cols).zip(out.chunks_mut(ROWS)) {
            let mut sums = [0.0_f64; ROWS];
            if out.len() == ROWS {
                let mut rows = [&x[..cols]; ROWS];
                for (row, values) in rows.iter_mut().zip(x.chunks_exact(cols)) {
                    *row = values;
                }
                for i in 0..cols {
                    for (sum, row) in sums.iter_mut().zip(&rows) {
                        *sum += f64::from(row[i]);
                    }
                }
            } else {
                for (sum, row) in sums.iter_mut().zip(x.chunks_exact(cols)) {
                    *sum = row.iter().fold(0.0, |sum, &v| sum + f64::from(v));
                }
            }
            for (out, sum) in out.iter_mut().zip(&sums) {
                *out = (sum / cols as f64) as f32;
            }
        }
    }
}

multiversion! {
    fn fold_pixel [T: Copy, F: Fn(T, T) -> T] (out: &mut [T], x: &[T], f: F) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(*out, x);
        }
    }
}

multiversion! {
    fn sum_rows [A: Copy, T: Copy, F: Fn(A, T) -> A] (x: &[T], sums: &mut [A], f: F) {
        for x in x.chunks_exact(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum = f(*sum, x);
            }
        }
    }
}

fn pool<T: Copy + Send + Sync>(
    x: &[T],
    geometry: &PoolGeometry,
    start: T,
    out: &mut [T],
    fold: impl Fn(&mut [T], &[T]) + Sync,
) {
    let g = geometry;
    assert_eq!(x.len(), g.n_inputs(), "length of the input");
    assert_eq!(out.len(), g.n_outputs(), "length of the output");
    if out.is_empty() {
        return;
    }
    let row = |(i, out): (usize, &mut [T])| {
        let (n, oy) = (i / g.oh, i % g.oh);
        for (ox, out) in out.chunks_exact_mut(g.c).enumerate() {
            out.fill(start);
            for kh in 0..g.kh {
                let iy = oy * g.stride_h + kh * g.dilation_h;
                if iy < g.pad_top || iy - g.pad_top >= g.ih {
                    continue;
                }
                for kw in 0..g.kw {
                    let ix = ox * g.stride_w + kw * g.dilation_w;
                    if ix < g.pad_left || ix - g.pad_left >= g.iw {
                        continue;
                    }
                    let pixel = ((n * g.ih + iy - g.pad_top) * g.iw + ix - g.pad_left) * g.c;
                    fold(out, &x[pixel..pixel + g.c]);
                }
            }
        }
    };
    if parallel::runs_here(out.len()) {
        out.chunks_mut(g.ow * g.c).enumerate().for_each(row);
    } else {
        out.par_chunks_mut(g.ow * g.c).enumerate().for_each(row);
    }
}

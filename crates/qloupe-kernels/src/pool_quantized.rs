//! Pools over NHWC u8 and s8 activations. Maxima run down the columns of the kernel first; means add real numbers in the
//! order (kh, kw).

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::pool::window_count;
use crate::rounded::ToByte;
use crate::{Isa, PoolGeometry, QuantizedSlice, isa, parallel};

/// u8 and s8.
pub trait QuantizedElement: Copy + PartialOrd + Send + Sync + Into<i32> {
    /// The lowest value.
    const LOWEST: Self;
    /// The integer of a bit pattern.
    fn from_byte(byte: u8) -> Self;
}

impl QuantizedElement for u8 {
    const LOWEST: Self = 0;
    #[inline(always)]
    fn from_byte(byte: u8) -> Self {
        byte
    }
}

impl QuantizedElement for i8 {
    const LOWEST: Self = -128;
    #[inline(always)]
    fn from_byte(byte: u8) -> Self {
        byte as i8
    }
}

/// Calls `row(n, oy, out)` for every row of output pixels.
fn each_row<T: Send>(g: &PoolGeometry, out: &mut [T], row: impl Fn(usize, usize, &mut [T]) + Sync) {
    assert_eq!(out.len(), g.n_outputs(), "length of the output");
    if out.is_empty() {
        return;
    }
    let row = |(i, out): (usize, &mut [T])| row(i / g.oh, i % g.oh, out);
    if parallel::runs_here(out.len() * g.kh * g.kw) {
        out.chunks_mut(g.ow * g.c).enumerate().for_each(row);
    } else {
        out.par_chunks_mut(g.ow * g.c).enumerate().for_each(row);
    }
}

/// The input rows under the kernel of output row `oy`.
fn rows_under<'a, T>(
    g: &'a PoolGeometry,
    x: &'a [T],
    n: usize,
    oy: usize,
) -> impl Iterator<Item = &'a [T]> + 'a {
    let width = g.iw * g.c;
    (0..g.kh).filter_map(move |kh| {
        let iy = (oy * g.stride_h + kh * g.dilation_h).checked_sub(g.pad_top)?;
        (iy < g.ih).then(|| &x[(n * g.ih + iy) * width..][..width])
    })
}

/// The largest u8 or s8 under the kernel; a window without a pixel gives the lowest value.
pub fn max_pool_quantized<T: QuantizedElement>(x: &[T], geometry: &PoolGeometry, out: &mut [T]) {
    max_pool_quantized_with_isa(isa(), x, geometry, out);
}

/// [`max_pool_quantized`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn max_pool_quantized_with_isa<T: QuantizedElement>(
    isa: Isa,
    x: &[T],
    geometry: &PoolGeometry,
    out: &mut [T],
) {
    isa.require();
    let g = geometry;
    assert_eq!(x.len(), g.n_inputs(), "length of the input");
    each_row(g, out, |n, oy, out| {
        let mut columns = Vec::new();
        for row in rows_under(g, x, n, oy) {
            if columns.is_empty() {
                columns.extend_from_slice(row);
            } else {
                raise(isa, &mut columns, row);
            }
        }
        out.fill(T::LOWEST);
        if !columns.is_empty() {
            raise_across(isa, &columns, g, out);
        }
    });
}

#[inline(always)]
fn raise_each<T: PartialOrd + Copy>(out: &mut [T], x: &[T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = if *out > x { *out } else { x };
    }
}

multiversion! {
    fn raise [T: PartialOrd + Copy] (out: &mut [T], x: &[T]) {
        raise_each(out, x);
    }
}

multiversion! {
    /// The maxima across the columns `[iw, c]` under the kernel.
    fn raise_across [T: PartialOrd + Copy] (columns: &[T], g: &PoolGeometry, out: &mut [T]) {
        each_tap(g, columns, out, raise_each);
    }
}

/// Calls `step(outputs, what lies under them)` for every tap of a kernel row over a row `[iw, c]`.
#[inline(always)]
fn each_tap<T>(g: &PoolGeometry, row: &[T], out: &mut [T], step: impl Fn(&mut [T], &[T])) {
    for kw in 0..g.kw {
        let tap = kw * g.dilation_w;
        if g.stride_w == 1 {
            // Neighbouring outputs read neighbouring pixels.
            let first = g.pad_left.saturating_sub(tap).min(g.ow);
            let end = (g.iw + g.pad_left).saturating_sub(tap).min(g.ow);
            if first < end {
                let from = (first + tap - g.pad_left) * g.c;
                step(&mut out[first * g.c..end * g.c], &row[from..]);
            }
            continue;
        }
        for (ox, out) in out.chunks_exact_mut(g.c).enumerate() {
            let at = ox * g.stride_w + tap;
            if at >= g.pad_left && at - g.pad_left < g.iw {
                step(out, &row[(at - g.pad_left) * g.c..][..g.c]);
            }
        }
    }
}

/// The mean of real numbers between two grids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AveragePoolQuantized {
    /// Scale and zero point of the input.
    pub input: (f32, i32),
    /// Scale and zero point of the output.
    pub output: (f32, i32),
    /// The smallest and the largest output.
    pub range: (i32, i32),
    /// The divisor counts the pixels of the padded image, not those of the image.
    pub count_include_pad: bool,
}

impl AveragePoolQuantized {
    /// `clip(rne(mean / scale + zero_point))`: an f32 sum in the order (kh, kw), divided by the count. A window without a
    /// pixel gives the lowest value.
    pub fn run<T: QuantizedElement, U: QuantizedElement>(&self, x: &[T], g: &PoolGeometry, out: &mut [U]) {
        self.run_with_isa(isa(), x, g, out);
    }

    /// [`AveragePoolQuantized::run`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn run_with_isa<T: QuantizedElement, U: QuantizedElement>(
        &self,
        isa: Isa,
        x: &[T],
        g: &PoolGeometry,
        out: &mut [U],
    ) {
        isa.require();
        assert_eq!(x.len(), g.n_inputs(), "length of the input");
        let lowest: i32 = U::LOWEST.into();
        assert!(
            lowest <= self.range.0 && self.range.0 <= self.range.1 && self.range.1 <= lowest + 255,
            "the range {:?} is outside the output dtype",
            self.range
        );
        each_row(g, out, |n, oy, out| {
            let mut real = vec![0.0_f32; g.iw * g.c];
            let mut sums = vec![0.0_f32; g.ow * g.c];
            for row in rows_under(g, x, n, oy) {
                add_row(isa, row, self.input, &mut real, g, &mut sums);
            }
            for (ox, (sums, out)) in sums.chunks_exact(g.c).zip(out.chunks_exact_mut(g.c)).enumerate() {
                let divisor = window_count(g, oy, ox, self.count_include_pad) as f32;
                finish(isa, sums, divisor, self.output, ToByte::new(self.range, 0), out);
            }
        });
    }
}

#[inline(always)]
fn add_each(sums: &mut [f32], x: &[f32]) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum += x;
    }
}

multiversion! {
    /// Adds the real numbers of an input row to the sums of the outputs above it.
    fn add_row [T: QuantizedElement] (
        row: &[T],
        grid: (f32, i32),
        real: &mut [f32],
        g: &PoolGeometry,
        sums: &mut [f32],
    ) {
        for (real, &q) in real.iter_mut().zip(row) {
            let q: i32 = q.into();
            *real = (q - grid.1) as f32 * grid.0;
        }
        each_tap(g, real, sums, add_each);
    }
}

multiversion! {
    fn finish [U: QuantizedElement] (
        sums: &[f32],
        divisor: f32,
        grid: (f32, i32),
        to_byte: ToByte,
        out: &mut [U],
    ) {
        let (scale, zero_point) = (grid.0, grid.1 as f32);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = U::from_byte(to_byte.byte(*sum / divisor / scale + zero_point));
        }
    }
}

/// The exact sum of every channel of `n` images `[hw, c]`, modulo 2^32.
pub fn global_sum(x: QuantizedSlice<'_>, n: usize, hw: usize, c: usize, out: &mut [i32]) {
    global_sum_with_isa(isa(), x, n, hw, c, out);
}

/// [`global_sum`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn global_sum_with_isa(isa: Isa, x: QuantizedSlice<'_>, n: usize, hw: usize, c: usize, out: &mut [i32]) {
    isa.require();
    assert_eq!(x.len(), n * hw * c, "length of the input");
    assert_eq!(out.len(), n * c, "length of the output");
    // With the top bit flipped, every element of an s8 is 128 larger.
    let flip = x.flip();
    out.fill((-i32::from(flip)).wrapping_mul(hw as i32));
    if x.is_empty() {
        return;
    }
    parallel::zip_rows(x.bytes(), hw * c, out, c, |_, x, out| {
        for (x, out) in x.chunks_exact(hw * c).zip(out.chunks_exact_mut(c)) {
            sum_bytes(isa, x, flip, out);
        }
    });
}

/// Rows that are summed in 16 bits first.
const ROWS: usize = 8;

multiversion! {
    fn sum_bytes(x: &[u8], flip: u8, sums: &mut [i32]) {
        let c = sums.len();
        let groups = x.chunks_exact(ROWS * c);
        let rest = groups.remainder();
        for group in groups {
            let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &group[row * c..][..c]);
            for i in 0..c {
                let mut sum = 0_u16;
                for row in rows {
                    sum += u16::from(row[i] ^ flip);
                }
                sums[i] = sums[i].wrapping_add(i32::from(sum));
            }
        }
        for row in rest.chunks_exact(c) {
            for (sum, &q) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(q ^ flip));
            }
        }
    }
}

//! Tiles of a product in registers: rows of a times panels of b.

use std::arch::x86_64::*;

use qloupe_tensor::Requantize;

use super::Part;
use super::pack::{BYTE_LANES, PAIR_LANES, panels_of_bytes, panels_of_pairs, rows_of_bytes, rows_of_pairs};
use crate::buffer::{Aligned, with_scratch};

/// Rows of a tile with bytes.
const BYTE_ROWS: usize = 6;
/// Panels of a tile with bytes.
const BYTE_PANELS: usize = 4;
/// Rows of a tile with pairs.
const PAIR_ROWS: usize = 4;
/// Panels of a tile with pairs.
const PAIR_PANELS: usize = 2;

/// Four products of bytes to a step and lane.
///
/// With unsigned a and signed b, `sum((a - z_a) * (b - z_b)) = sum(a b) - z_a sum(b) - z_b sum(a) + k z_a z_b`.
///
/// # Safety
/// The machine has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) unsafe fn run_vnni(part: &Part<'_>, out: &mut [u8]) {
    let (k, n) = (part.k, part.n);
    let (k4, n_panels) = (k.div_ceil(4), n.div_ceil(BYTE_LANES));
    let panel_len = k4 * 4 * BYTE_LANES;
    let a_zero_point = part.a_zero_point + i32::from(part.flip_a);
    // b is taken as 128 below its unsigned bytes.
    let b_zero_point = part.b_zero_point + i32::from(part.flip_b) - 128;
    let mut a = Aligned::<u8>::zeroed(BYTE_ROWS * k4 * 4);
    let mut columns = Aligned::<i32>::zeroed(n_panels * BYTE_LANES);
    with_scratch(n_panels * panel_len, |panels: &mut [i8]| {
        let columns = columns.as_mut_slice();
        // SAFETY: the buffers hold whole panels; the machine has the instructions.
        unsafe { panels_of_bytes(part, k4, panels, columns) }
        let both = (k as i32).wrapping_mul(a_zero_point.wrapping_mul(b_zero_point));
        for column in columns.iter_mut() {
            *column = both.wrapping_sub(column.wrapping_mul(a_zero_point));
        }
        let scale = FloatScale::new(part);
        for (block, out) in out.chunks_mut(BYTE_ROWS * n).enumerate() {
            let n_rows = out.len() / n;
            let rows = rows_of_bytes(part, block * BYTE_ROWS, n_rows, k4 * 4, a.as_mut_slice());
            let rows = rows.map(|sum| sum.wrapping_mul(b_zero_point));
            for panel in (0..n_panels).step_by(BYTE_PANELS) {
                let first = panel * BYTE_LANES;
                let width = (BYTE_PANELS * BYTE_LANES).min(n - first);
                let mut tile = Bytes {
                    a: a.as_slice().as_ptr(),
                    b: panels[panel * panel_len..].as_ptr(),
                    k4,
                    rows: &rows,
                    columns: columns[first..].as_ptr(),
                    sums: [[0; BYTE_PANELS * BYTE_LANES]; BYTE_ROWS],
                };
                let to = Target {
                    multiplier: part.multiplier[first..].as_ptr(),
                    out: out[first..].as_mut_ptr(),
                    stride: n,
                    n_rows,
                    width,
                };
                // SAFETY: a holds all rows of a tile, b and the columns its panels, and the output its rows.
                unsafe {
                    match n_panels - panel {
                        1 => tile.run::<1>(scale.as_ref(), &to),
                        2 => tile.run::<2>(scale.as_ref(), &to),
                        3 => tile.run::<3>(scale.as_ref(), &to),
                        _ => tile.run::<BYTE_PANELS>(scale.as_ref(), &to),
                    }
                }
                if scale.is_none() {
                    for (sums, out) in tile.sums.iter().zip(out.chunks_exact_mut(n)) {
                        part.requantize(sums, first, &mut out[first..][..width]);
                    }
                }
            }
        }
    });
}

/// The float-scale policies in registers: `clip(rne(sum * multiplier + before), low, high) + after`.
struct FloatScale {
    before: f32,
    low: f32,
    high: f32,
    after: i32,
}

impl FloatScale {
    fn new(part: &Part<'_>) -> Option<Self> {
        let e = part.epilogue;
        let (before, after) = match e.policy {
            Requantize::FloatScaleZeroPointAfter => (0, e.zero_point),
            Requantize::FloatScaleZeroPointBefore => (e.zero_point, 0),
            _ => return None,
        };
        Some(Self {
            before: before as f32,
            low: (e.min - after) as f32,
            high: (e.max - after) as f32,
            after,
        })
    }
}

/// Where a tile writes.
struct Target {
    multiplier: *const f32,
    out: *mut u8,
    /// The distance of rows.
    stride: usize,
    n_rows: usize,
    /// The columns of the tile that exist.
    width: usize,
}

/// A tile of bytes: `BYTE_ROWS` rows of `4 * k4` bytes, and panels.
struct Bytes<'a> {
    a: *const u8,
    b: *const i8,
    k4: usize,
    /// What is taken off each row.
    rows: &'a [i32; 8],
    /// What is added to each column.
    columns: *const i32,
    /// The sums, for policies that are not in registers.
    sums: [[i32; BYTE_PANELS * BYTE_LANES]; BYTE_ROWS],
}

impl Bytes<'_> {
    /// # Safety
    /// The pointers hold `PANELS` panels and the rows of the target; the machine has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    unsafe fn run<const PANELS: usize>(&mut self, scale: Option<&FloatScale>, to: &Target) {
        // SAFETY: the contract above; multipliers and columns reach to the end of the panels.
        unsafe {
            let mut acc = [[_mm512_setzero_si512(); PANELS]; BYTE_ROWS];
            for step in 0..self.k4 {
                let mut weights = [_mm512_setzero_si512(); PANELS];
                for (panel, weight) in weights.iter_mut().enumerate() {
                    *weight = _mm512_load_si512(self.b.add((panel * self.k4 + step) * 64).cast());
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = self.a.add((r * self.k4 + step) * 4).cast::<i32>();
                    let x = _mm512_set1_epi32(x.read_unaligned());
                    for (acc, weight) in acc.iter_mut().zip(weights) {
                        *acc = _mm512_dpbusd_epi32(*acc, x, weight);
                    }
                }
            }
            for (acc, &row) in acc.iter_mut().zip(self.rows) {
                for (panel, acc) in acc.iter_mut().enumerate() {
                    let column = _mm512_loadu_si512(self.columns.add(panel * BYTE_LANES).cast());
                    let shifted = _mm512_sub_epi32(column, _mm512_set1_epi32(row));
                    *acc = _mm512_add_epi32(*acc, shifted);
                }
            }
            let Some(scale) = scale else {
                for (sums, acc) in self.sums.iter_mut().zip(acc) {
                    for (panel, acc) in acc.into_iter().enumerate() {
                        _mm512_storeu_si512(sums.as_mut_ptr().add(panel * BYTE_LANES).cast(), acc);
                    }
                }
                return;
            };
            let (low, high) = (_mm512_set1_ps(scale.low), _mm512_set1_ps(scale.high));
            let (before, after) = (_mm512_set1_ps(scale.before), _mm512_set1_epi32(scale.after));
            for (r, acc) in acc.into_iter().enumerate().take(to.n_rows) {
                for (panel, acc) in acc.into_iter().enumerate() {
                    let at = panel * BYTE_LANES;
                    let mask = ((1_u32 << (to.width - at).min(BYTE_LANES)) - 1) as u16;
                    let multiplier = _mm512_loadu_ps(to.multiplier.add(at));
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
                    let raised = _mm512_max_ps(_mm512_add_ps(scaled, before), low);
                    let rounded = _mm512_cvtps_epi32(_mm512_min_ps(raised, high));
                    let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(rounded, after));
                    _mm_mask_storeu_epi8(to.out.add(r * to.stride + at).cast(), mask, bytes);
                }
            }
        }
    }
}

/// Two products of differences to a step and lane.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2(part: &Part<'_>, out: &mut [u8]) {
    let (k, n) = (part.k, part.n);
    let (k2, n_panels) = (k.div_ceil(2), n.div_ceil(PAIR_LANES));
    let panel_len = k2 * 2 * PAIR_LANES;
    let mut a = Aligned::<i16>::zeroed(PAIR_ROWS * k2 * 2);
    with_scratch(n_panels * panel_len, |panels: &mut [i16]| {
        panels_of_pairs(part, k2, panels);
        for (block, out) in out.chunks_mut(PAIR_ROWS * n).enumerate() {
            let n_rows = out.len() / n;
            rows_of_pairs(part, block * PAIR_ROWS, n_rows, k2 * 2, a.as_mut_slice());
            let mut sums = [[0_i32; PAIR_PANELS * PAIR_LANES]; PAIR_ROWS];
            for panel in (0..n_panels).step_by(PAIR_PANELS) {
                let a = a.as_slice().as_ptr();
                let b = panels[panel * panel_len..].as_ptr();
                // SAFETY: a holds all rows of a tile, b the panels of the tile.
                unsafe {
                    match n_panels - panel {
                        1 => pairs::<1>(a, b, k2, &mut sums),
                        _ => pairs::<PAIR_PANELS>(a, b, k2, &mut sums),
                    }
                }
                let first = panel * PAIR_LANES;
                let width = (PAIR_PANELS * PAIR_LANES).min(n - first);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(n)) {
                    part.requantize(sums, first, &mut out[first..][..width]);
                }
            }
        }
    });
}

/// # Safety
/// `a` has `PAIR_ROWS` rows of `2 * k2` differences, `b` has `PANELS` panels; the machine has AVX2.
#[target_feature(enable = "avx2,fma")]
unsafe fn pairs<const PANELS: usize>(
    a: *const i16,
    b: *const i16,
    k2: usize,
    sums: &mut [[i32; PAIR_PANELS * PAIR_LANES]; PAIR_ROWS],
) {
    // SAFETY: the contract above.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); PANELS]; PAIR_ROWS];
        for step in 0..k2 {
            let mut weights = [_mm256_setzero_si256(); PANELS];
            for (panel, weight) in weights.iter_mut().enumerate() {
                *weight = _mm256_loadu_si256(b.add((panel * k2 + step) * 2 * PAIR_LANES).cast());
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(a.add((r * k2 + step) * 2).cast::<i32>().read_unaligned());
                for (acc, weight) in acc.iter_mut().zip(weights) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, weight));
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (panel, acc) in acc.into_iter().enumerate() {
                _mm256_storeu_si256(sums.as_mut_ptr().add(panel * PAIR_LANES).cast(), acc);
            }
        }
    }
}

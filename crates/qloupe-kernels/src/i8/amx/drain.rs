//! From stored accumulators to outputs, a few pixels at a time: between the products of the next tiles, which run on
//! units of their own.

use std::arch::x86_64::*;

use super::weights::{Block, LANES};
use crate::i8::clip512::Clip512;
use crate::i8::vector::Output;

/// Accumulators of a row of the scratch memory: one pixel.
pub(super) const ROW: usize = 2 * LANES;
/// Rows of the scratch memory: two tiles of pixels.
pub(super) const ROWS: usize = 2 * TILE_ROWS;
const TILE_ROWS: usize = 16;

/// Accumulators that wait to be written.
pub(super) struct Drain<'a> {
    /// Of all channels, added here because loading them into tiles is slow.
    bias: *const i32,
    output: Output,
    clip: Option<Clip512>,
    /// Units of blocks of one and of two tiles of channels.
    plans: [UnitPlan; 2],
    now: Stored<'a>,
    next: usize,
    end: usize,
}

/// The accumulators of one block.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) scratch: *const i32,
    pub(super) block: &'a Block,
    /// The first output element of each tile of pixels.
    pub(super) out: [usize; 2],
    /// Tiles of pixels.
    pub(super) n_tiles: usize,
}

/// Pixels that are written together: 64 bytes of output.
#[derive(Clone, Copy, Default)]
struct Unit {
    /// Where the accumulators are in the scratch memory, and the outputs from the first of the tile.
    acc: [usize; 4],
    out: [usize; 4],
}

struct UnitPlan {
    /// The units of two tiles of pixels.
    units: [Unit; ROWS / 2],
    per_tile: usize,
}

impl UnitPlan {
    /// Units of `at_once` pixels. Beyond the last pixel of a tile, it is written again.
    fn new(n_pixels: usize, at_once: usize, out_stride: usize) -> Self {
        let per_tile = n_pixels.div_ceil(at_once);
        let mut units = [Unit::default(); ROWS / 2];
        for (idx, unit) in units.iter_mut().take(2 * per_tile).enumerate() {
            let (tile, first) = (idx / per_tile, idx % per_tile * at_once);
            for i in 0..4 {
                let pixel = (first + i.min(at_once - 1)).min(n_pixels - 1);
                unit.acc[i] = (tile * TILE_ROWS + pixel) * ROW;
                unit.out[i] = pixel * out_stride;
            }
        }
        Self { units, per_tile }
    }
}

impl<'a> Drain<'a> {
    /// # Safety
    /// The machine has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn new(
        bias: *const i32,
        output: Output,
        out_stride: usize,
        n_pixels: usize,
        block: &'a Block,
    ) -> Self {
        let clip = match &output {
            Output::Accumulators(_) => None,
            // SAFETY: the caller's.
            Output::Quantized(_, scale) => Some(unsafe { Clip512::new(scale) }),
        };
        let nothing = Stored {
            scratch: std::ptr::null(),
            block,
            out: [0; 2],
            n_tiles: 0,
        };
        Self {
            bias,
            output,
            clip,
            plans: [
                UnitPlan::new(n_pixels, 4, out_stride),
                UnitPlan::new(n_pixels, 2, out_stride),
            ],
            now: nothing,
            next: 0,
            end: 0,
        }
    }

    /// Units of work left.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.end - self.next
    }

    /// Takes over new accumulators; the former ones are written.
    #[inline(always)]
    pub(super) fn fill(&mut self, stored: Stored<'a>) {
        debug_assert!(self.left() == 0, "accumulators are lost");
        self.now = stored;
        self.next = 0;
        self.end = self.now.n_tiles * self.plans[self.now.block.n_tiles - 1].per_tile;
    }

    /// Writes as many units as there are, at most `n`.
    ///
    /// # Safety
    /// The machine has AVX-512; the accumulators and the outputs of the tiles are valid.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn advance(&mut self, n: usize) {
        let plan = &self.plans[self.now.block.n_tiles - 1];
        let (next, end) = (self.next, self.end.min(self.next + n));
        self.next = end;
        // No closures here: they would be compiled for the instruction set, but what calls them would not.
        // SAFETY: the caller's.
        unsafe {
            let bias = self.bias.add(self.now.block.tile * LANES);
            match (self.output, &self.clip) {
                (Output::Quantized(out, scale), Some(clip)) => {
                    let multiplier = scale.multiplier.add(self.now.block.tile * LANES);
                    let bias0 = _mm512_loadu_si512(bias.cast());
                    let multiplier0 = _mm512_loadu_ps(multiplier);
                    if self.now.block.n_tiles == 2 {
                        let bias = [bias0, _mm512_loadu_si512(bias.add(LANES).cast())];
                        let multiplier = [multiplier0, _mm512_loadu_ps(multiplier.add(LANES))];
                        for idx in next..end {
                            let out = out.add(self.now.out[usize::from(idx >= plan.per_tile)]);
                            self.quantize_2x32(&plan.units[idx], out, bias, multiplier, clip);
                        }
                    } else {
                        for idx in next..end {
                            let out = out.add(self.now.out[usize::from(idx >= plan.per_tile)]);
                            self.quantize_4x16(&plan.units[idx], out, bias0, multiplier0, clip);
                        }
                    }
                }
                (Output::Quantized(..), None) => {}
                (Output::Accumulators(out), _) => {
                    for idx in next..end {
                        let out = out.add(self.now.out[usize::from(idx >= plan.per_tile)]);
                        self.copy(&plan.units[idx], out, bias);
                    }
                }
            }
        }
    }

    /// The sums of 16 channels, from an accumulator of the scratch memory on.
    #[inline(always)]
    unsafe fn sums(&self, at: usize, bias: __m512i) -> __m512i {
        // SAFETY: the caller's; every row begins at a cache line.
        unsafe { _mm512_add_epi32(_mm512_load_si512(self.now.scratch.add(at).cast()), bias) }
    }

    #[inline(always)]
    unsafe fn copy(&self, unit: &Unit, out: *mut i32, bias: *const i32) {
        for i in 0..4 {
            for vector in 0..self.now.block.n_tiles {
                let is_last = vector + 1 == self.now.block.n_tiles;
                let lanes = if is_last { self.now.block.last_lanes } else { LANES };
                let mask = ((1_u32 << lanes) - 1) as u16;
                // SAFETY: the caller's; masked lanes are not written.
                unsafe {
                    let bias = _mm512_loadu_si512(bias.add(vector * LANES).cast());
                    let sums = self.sums(unit.acc[i] + vector * LANES, bias);
                    _mm512_mask_storeu_epi32(out.add(unit.out[i] + vector * LANES), mask, sums);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn quantize_2x32(
        &self,
        unit: &Unit,
        out: *mut u8,
        bias: [__m512i; 2],
        multiplier: [__m512; 2],
        clip: &Clip512,
    ) {
        let (acc, to) = (unit.acc, unit.out);
        // SAFETY: the caller's; masked bytes are not written.
        unsafe {
            let acc = [
                self.sums(acc[0], bias[0]),
                self.sums(acc[0] + LANES, bias[1]),
                self.sums(acc[1], bias[0]),
                self.sums(acc[1] + LANES, bias[1]),
            ];
            let bytes = clip.bytes4(acc, [multiplier[0], multiplier[1], multiplier[0], multiplier[1]]);
            let halves = [
                _mm512_castsi512_si256(bytes),
                _mm512_extracti64x4_epi64::<1>(bytes),
            ];
            if self.now.block.last_lanes == LANES {
                _mm256_storeu_si256(out.add(to[0]).cast(), halves[0]);
                _mm256_storeu_si256(out.add(to[1]).cast(), halves[1]);
            } else {
                let mask = (1_u32 << (LANES + self.now.block.last_lanes)) - 1;
                _mm256_mask_storeu_epi8(out.add(to[0]).cast(), mask, halves[0]);
                _mm256_mask_storeu_epi8(out.add(to[1]).cast(), mask, halves[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn quantize_4x16(
        &self,
        unit: &Unit,
        out: *mut u8,
        bias: __m512i,
        multiplier: __m512,
        clip: &Clip512,
    ) {
        // SAFETY: the caller's; masked bytes are not written.
        unsafe {
            let acc = [
                self.sums(unit.acc[0], bias),
                self.sums(unit.acc[1], bias),
                self.sums(unit.acc[2], bias),
                self.sums(unit.acc[3], bias),
            ];
            let bytes = clip.bytes4(acc, [multiplier; 4]);
            let quarters = [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ];
            let mask = ((1_u32 << self.now.block.last_lanes) - 1) as u16;
            for (&quarter, &to) in quarters.iter().zip(&unit.out) {
                if mask == u16::MAX {
                    _mm_storeu_si128(out.add(to).cast(), quarter);
                } else {
                    _mm_mask_storeu_epi8(out.add(to).cast(), mask, quarter);
                }
            }
        }
    }
}

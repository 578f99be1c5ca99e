//! From stored accumulators to outputs, a few pixels at a time: between the products of the next tiles, which run on
//! units of their own.

use std::arch::x86_64::*;

use super::weights::{Block, LANES};
use crate::i8::clip512::Clip512;
use crate::i8::vector::{I32Vector, Output, Vnni};

/// Accumulators of a row of the scratch memory: one pixel.
pub(super) const ROW: usize = 2 * LANES;
/// Rows of the scratch memory: two tiles of pixels.
pub(super) const ROWS: usize = 32;

/// Accumulators that wait to be written.
pub(super) struct Drain {
    output: Output,
    clip: Option<Clip512>,
    /// From an output pixel to the next.
    out_stride: usize,
    /// Pixels of a tile.
    n_pixels: usize,
    scratch: *const i32,
    block: Block,
    /// The first output element of each tile of pixels.
    out: [usize; 2],
    next: usize,
    end: usize,
}

impl Drain {
    /// # Safety
    /// The machine has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn new(output: Output, out_stride: usize, n_pixels: usize, block: Block) -> Self {
        let clip = match &output {
            Output::Accumulators(_) => None,
            // SAFETY: the caller's.
            Output::Quantized(_, scale) => Some(unsafe { Clip512::new(scale) }),
        };
        Self {
            output,
            clip,
            out_stride,
            n_pixels,
            scratch: std::ptr::null(),
            block,
            out: [0; 2],
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
    pub(super) fn fill(&mut self, scratch: *const i32, block: Block, out: [usize; 2], n_tiles: usize) {
        debug_assert!(self.left() == 0, "accumulators are lost");
        self.scratch = scratch;
        self.block = block;
        self.out = out;
        self.next = 0;
        self.end = n_tiles * self.units_per_tile();
    }

    fn pixels_per_unit(&self) -> usize {
        if self.block.n_tiles == 2 { 2 } else { 4 }
    }

    fn units_per_tile(&self) -> usize {
        self.n_pixels.div_ceil(self.pixels_per_unit())
    }

    /// Writes as many units as there are, at most `n`.
    ///
    /// # Safety
    /// The machine has AVX-512; the accumulators and the outputs of the tiles are valid.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn advance(&mut self, n: usize) {
        let end = self.end.min(self.next + n);
        let per_tile = self.units_per_tile();
        for unit in self.next..end {
            let tile = usize::from(unit >= per_tile);
            let first = (unit - tile * per_tile) * self.pixels_per_unit();
            // SAFETY: the caller's.
            unsafe {
                match (self.output, self.clip) {
                    (Output::Accumulators(out), _) => self.copy(out, tile, first),
                    (Output::Quantized(out, scale), Some(clip)) => {
                        let multiplier = scale.multiplier.add(self.block.tile * LANES);
                        if self.block.n_tiles == 2 {
                            self.quantize_2x32(out, tile, first, multiplier, &clip);
                        } else {
                            self.quantize_4x16(out, tile, first, multiplier, &clip);
                        }
                    }
                    (Output::Quantized(..), None) => {}
                }
            }
        }
        self.next = end;
    }

    /// The accumulators and the output element of a pixel; beyond the last pixel, those of the last.
    #[inline(always)]
    fn pixel(&self, tile: usize, pixel: usize) -> (*const i32, usize) {
        let pixel = pixel.min(self.n_pixels - 1);
        (
            self.scratch.wrapping_add((tile * 16 + pixel) * ROW),
            self.out[tile] + pixel * self.out_stride,
        )
    }

    #[inline(always)]
    unsafe fn copy(&self, out: *mut i32, tile: usize, first: usize) {
        for i in 0..self.pixels_per_unit() {
            let (acc, to) = self.pixel(tile, first + i);
            for vector in 0..self.block.n_tiles {
                let lanes = self.lanes(vector);
                // SAFETY: the caller's.
                unsafe {
                    Vnni::load(acc.add(vector * LANES)).store_first(out.add(to + vector * LANES), lanes)
                };
            }
        }
    }

    fn lanes(&self, vector: usize) -> usize {
        if vector + 1 == self.block.n_tiles {
            self.block.last_lanes
        } else {
            LANES
        }
    }

    #[inline(always)]
    unsafe fn quantize_2x32(
        &self,
        out: *mut u8,
        tile: usize,
        first: usize,
        multiplier: *const f32,
        clip: &Clip512,
    ) {
        let (acc0, to0) = self.pixel(tile, first);
        let (acc1, to1) = self.pixel(tile, first + 1);
        // SAFETY: the caller's; masked bytes are not written.
        unsafe {
            let multiplier = [
                _mm512_loadu_ps(multiplier),
                _mm512_loadu_ps(multiplier.add(LANES)),
            ];
            let load = |acc: *const i32| _mm512_load_si512(acc.cast());
            let acc = [
                load(acc0),
                load(acc0.add(LANES)),
                load(acc1),
                load(acc1.add(LANES)),
            ];
            let bytes = clip.bytes4(acc, [multiplier[0], multiplier[1], multiplier[0], multiplier[1]]);
            let halves = [
                _mm512_castsi512_si256(bytes),
                _mm512_extracti64x4_epi64::<1>(bytes),
            ];
            if self.block.last_lanes == LANES {
                _mm256_storeu_si256(out.add(to0).cast(), halves[0]);
                _mm256_storeu_si256(out.add(to1).cast(), halves[1]);
            } else {
                let mask = (1_u32 << (LANES + self.block.last_lanes)) - 1;
                _mm256_mask_storeu_epi8(out.add(to0).cast(), mask, halves[0]);
                _mm256_mask_storeu_epi8(out.add(to1).cast(), mask, halves[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn quantize_4x16(
        &self,
        out: *mut u8,
        tile: usize,
        first: usize,
        multiplier: *const f32,
        clip: &Clip512,
    ) {
        let pixels = [0, 1, 2, 3].map(|i| self.pixel(tile, first + i));
        // SAFETY: the caller's; masked bytes are not written.
        unsafe {
            let multiplier = _mm512_loadu_ps(multiplier);
            let acc = pixels.map(|(acc, _)| _mm512_load_si512(acc.cast()));
            let bytes = clip.bytes4(acc, [multiplier; 4]);
            let quarters = [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ];
            let mask = ((1_u32 << self.block.last_lanes) - 1) as u16;
            for (quarter, (_, to)) in quarters.into_iter().zip(pixels) {
                if mask == u16::MAX {
                    _mm_storeu_si128(out.add(to).cast(), quarter);
                } else {
                    _mm_mask_storeu_epi8(out.add(to).cast(), mask, quarter);
                }
            }
        }
    }
}

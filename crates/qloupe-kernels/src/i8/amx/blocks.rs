//! The loops over tiles of pixels and blocks of output channels in one band.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use super::drain::{Drain, ROW, ROWS, Stored};
use super::tiles::{self, Tiles};
use super::weights::{Block, TileWeights};
use crate::i8::vector::Output;

/// Pixels of the largest tile.
const MAX_PIXELS: usize = 16;
const LINE_BYTES: usize = 64;
/// Weights that the inner loop uses for every tile of pixels: a part of the L1 cache.
const RESIDENT_BYTES: usize = 32 * 1024;
/// Accumulators of the scratch memory: the tiles that are computed and those that are written.
pub(super) const SCRATCH: usize = 2 * ROWS * ROW;

/// A band of output pixels, and where their activations are.
pub(super) struct Job<'a> {
    pub(super) weights: &'a TileWeights,
    /// The activations of the first pixel, and from a pixel and an output row to the next.
    pub(super) x: *const u8,
    pub(super) pixel_stride: usize,
    pub(super) row_stride: usize,
    pub(super) n_rows: usize,
    pub(super) width: usize,
    /// From a group to the next.
    pub(super) group_stride: usize,
    /// Where every chunk of K is, for pixel 0.
    pub(super) chunks: &'a [usize],
    pub(super) bias: *const i32,
    pub(super) output: Output,
    /// The first output element, and from a pixel to the next.
    pub(super) out_offset: usize,
    pub(super) out_stride: usize,
    /// [`SCRATCH`] accumulators, aligned to cache lines.
    pub(super) scratch: *mut i32,
}

/// Two tiles of pixels, or one twice.
#[derive(Clone, Copy)]
struct Pixels {
    x: [usize; 2],
    out: [usize; 2],
    n_tiles: usize,
}

/// Weights of the next blocks, brought to the cache while others are used.
#[derive(Clone, Copy)]
struct Ahead {
    weight: *const i8,
    /// Cache lines for every chunk.
    lines: usize,
}

impl Ahead {
    #[inline(always)]
    fn advance(&mut self) {
        for _ in 0..self.lines {
            // SAFETY: a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.weight) };
            self.weight = self.weight.wrapping_add(LINE_BYTES);
        }
    }

    /// What so many calls of [`Ahead::advance`] bring.
    fn skip(&mut self, chunks: usize) {
        self.weight = self.weight.wrapping_add(chunks * self.lines * LINE_BYTES);
    }
}

impl Job<'_> {
    /// Computes the blocks for all pixels.
    ///
    /// # Safety
    /// The process may use AMX; the chunks of every pixel are readable, and nobody else writes the outputs.
    pub(super) unsafe fn run(&self, signed: bool, blocks: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            if signed {
                self.run_as::<true>(blocks);
            } else {
                self.run_as::<false>(blocks);
            }
        }
    }

    /// Tiles of a row, and the pixels of each.
    fn tiles(&self) -> (usize, usize) {
        let per_row = self.width.div_ceil(MAX_PIXELS);
        (per_row, self.width.div_ceil(per_row))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn run_as<const SIGNED: bool>(&self, blocks: Range<usize>) {
        let (per_row, n_pixels) = self.tiles();
        let n_tiles = self.n_rows * per_row;
        let pairs = (0..n_tiles).step_by(2);
        let pairs: Vec<_> = pairs.map(|tile| self.pixels(tile, n_tiles)).collect();
        let blocks: Vec<_> = blocks.map(|block| self.weights.block(block)).collect();
        let Some(first) = blocks.first() else {
            return;
        };
        // SAFETY: the caller's.
        unsafe {
            let tiles = Tiles::configure(n_pixels, self.weights.chunk_steps);
            let mut drain = Drain::new(self.bias, self.output, self.out_stride, n_pixels, first);
            let mut scratch = [self.scratch, self.scratch.add(SCRATCH / 2)];
            let mut run = |block, pixels: &Pixels, ahead: Ahead| {
                self.block::<SIGNED>(block, pixels, ahead, scratch[0], &mut drain);
                scratch.swap(0, 1);
            };
            let at_once = (RESIDENT_BYTES / self.weights.block_bytes()).max(1);
            let group_lines = at_once * self.weights.block_bytes() / LINE_BYTES;
            let lines = group_lines.div_ceil(pairs.len() * at_once * self.chunks.len());
            for (idx, group) in blocks.chunks(at_once).enumerate() {
                let next = blocks.get((idx + 1) * at_once);
                let mut ahead = Ahead {
                    weight: next.map_or(std::ptr::null(), |next| next.weight),
                    lines: if next.is_some() { lines } else { 0 },
                };
                for pixels in &pairs {
                    for block in group {
                        run(block, pixels, ahead);
                        ahead.skip(self.chunks.len());
                    }
                }
            }
            drop(tiles);
            drain.advance(ROWS);
        }
    }

    /// The tiles `tile` and `tile + 1`; the last of a row overlaps the one before, so that all are of one size.
    fn pixels(&self, tile: usize, n_tiles: usize) -> Pixels {
        let (per_row, n_pixels) = self.tiles();
        let place = |tile: usize| {
            let row = tile / per_row;
            let first = (tile % per_row * n_pixels).min(self.width - n_pixels);
            (
                row * self.row_stride + first * self.pixel_stride,
                self.out_offset + (row * self.width + first) * self.out_stride,
            )
        };
        let (x0, out0) = place(tile);
        let (x1, out1) = place((tile + 1).min(n_tiles - 1));
        Pixels {
            x: [x0, x1],
            out: [out0, out1],
            n_tiles: (n_tiles - tile).min(2),
        }
    }

    #[inline(always)]
    unsafe fn block<'b, const SIGNED: bool>(
        &self,
        block: &'b Block,
        pixels: &Pixels,
        ahead: Ahead,
        scratch: *mut i32,
        drain: &mut Drain<'b>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match (pixels.n_tiles, block.n_tiles) {
                (2, 2) => self.compute::<SIGNED, 2, 2>(block, pixels, ahead, scratch, drain),
                (2, _) => self.compute::<SIGNED, 2, 1>(block, pixels, ahead, scratch, drain),
                (_, 2) => self.compute::<SIGNED, 1, 2>(block, pixels, ahead, scratch, drain),
                _ => self.compute::<SIGNED, 1, 1>(block, pixels, ahead, scratch, drain),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn compute<'b, const SIGNED: bool, const NT: usize, const NV: usize>(
        &self,
        block: &'b Block,
        pixels: &Pixels,
        mut ahead: Ahead,
        scratch: *mut i32,
        drain: &mut Drain<'b>,
    ) {
        const ROW_BYTES: usize = ROW * size_of::<i32>();
        let tile_bytes = self.weights.tile_bytes();
        let x = self.x.wrapping_add(block.group * self.group_stride);
        let x = pixels.x.map(|offset| x.wrapping_add(offset));
        let mut weight = block.weight;
        // The former accumulators are written evenly between the products.
        let share = drain.left().div_ceil(self.chunks.len());
        // SAFETY: the caller's.
        unsafe {
            tiles::start();
            for &chunk in self.chunks {
                let x = [x[0].wrapping_add(chunk), x[1].wrapping_add(chunk)];
                tiles::multiply::<SIGNED, NT, NV>(x, self.pixel_stride, weight, tile_bytes);
                weight = weight.wrapping_add(NV * tile_bytes);
                ahead.advance();
                drain.advance(share);
            }
            tiles::store::<0, NV>(scratch, ROW_BYTES);
            if NT == 2 {
                tiles::store::<1, NV>(scratch.add(ROWS / 2 * ROW), ROW_BYTES);
            }
        }
        drain.fill(Stored {
            scratch,
            block,
            out: pixels.out.map(|out| out + block.channel),
            n_tiles: NT,
        });
    }
}

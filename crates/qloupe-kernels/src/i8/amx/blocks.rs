//! The loops over tiles of pixels and blocks of output channels in one band.

use std::ops::Range;

use super::drain::{Drain, ROW, ROWS};
use super::tiles::{self, Tiles};
use super::weights::{Block, LANES, TileWeights};
use crate::i8::vector::Output;

/// Pixels of the largest tile.
const MAX_PIXELS: usize = 16;
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
    /// Keep the weights of a block in the outer loop, not the pixels.
    pub(super) blocks_outside: bool,
}

/// Two tiles of pixels, or one twice.
#[derive(Clone, Copy)]
struct Pixels {
    x: [usize; 2],
    out: [usize; 2],
    n_tiles: usize,
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
        let pairs = || (0..n_tiles).step_by(2).map(|tile| self.pixels(tile, n_tiles));
        if blocks.is_empty() {
            return;
        }
        // SAFETY: the caller's.
        unsafe {
            let tiles = Tiles::configure(n_pixels, self.weights.chunk_steps);
            let mut drain = Drain::new(
                self.output,
                self.out_stride,
                n_pixels,
                self.weights.block(blocks.start),
            );
            let mut scratch = [self.scratch, self.scratch.add(SCRATCH / 2)];
            if self.blocks_outside {
                for block in blocks {
                    let block = self.weights.block(block);
                    for pixels in pairs() {
                        self.block::<SIGNED>(&block, &pixels, scratch[0], &mut drain);
                        scratch.swap(0, 1);
                    }
                }
            } else {
                for pixels in pairs() {
                    for block in blocks.clone() {
                        let block = self.weights.block(block);
                        self.block::<SIGNED>(&block, &pixels, scratch[0], &mut drain);
                        scratch.swap(0, 1);
                    }
                }
            }
            drop(tiles);
            drain.advance(usize::MAX - ROWS);
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
    unsafe fn block<const SIGNED: bool>(
        &self,
        block: &Block,
        pixels: &Pixels,
        scratch: *mut i32,
        drain: &mut Drain,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match (pixels.n_tiles, block.n_tiles) {
                (2, 2) => self.compute::<SIGNED, 2, 2>(block, pixels, scratch, drain),
                (2, _) => self.compute::<SIGNED, 2, 1>(block, pixels, scratch, drain),
                (_, 2) => self.compute::<SIGNED, 1, 2>(block, pixels, scratch, drain),
                _ => self.compute::<SIGNED, 1, 1>(block, pixels, scratch, drain),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn compute<const SIGNED: bool, const NT: usize, const NV: usize>(
        &self,
        block: &Block,
        pixels: &Pixels,
        scratch: *mut i32,
        drain: &mut Drain,
    ) {
        let tile_bytes = self.weights.tile_bytes();
        let x = self.x.wrapping_add(block.group * self.group_stride);
        let x = pixels.x.map(|offset| x.wrapping_add(offset));
        let mut weight = block.weight;
        // The former accumulators are written between the products, evenly.
        let share = drain.left().div_ceil(self.chunks.len());
        // SAFETY: the caller's.
        unsafe {
            tiles::start::<NT, NV>(self.bias.add(block.tile * LANES));
            for &chunk in self.chunks {
                let x = x.map(|x| x.wrapping_add(chunk));
                tiles::multiply::<SIGNED, NT, NV>(x, self.pixel_stride, weight, tile_bytes);
                weight = weight.wrapping_add(NV * tile_bytes);
                drain.advance(share);
            }
            tiles::store::<NT, NV>(scratch, ROW * size_of::<i32>());
        }
        drain.fill(scratch, *block, pixels.out.map(|out| out + block.channel), NT);
    }
}

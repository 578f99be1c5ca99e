//! The loops around the tiles of a dense convolution, shared by the float and the integer kernels of vectors.
//!
//! A band of input rows is copied with its padding only when it must be; then a kernel row is contiguous in memory and
//! no im2col is needed.

use crate::ConvGeometry;
use crate::bands::{After, Band, BandCost, Plan, RESIDENT_WEIGHT_BYTES};
use crate::buffer::{Plain, with_scratch};

/// Input bytes of a band: a part of the L2 cache.
const BAND_BYTES: usize = 128 * 1024;

/// Weights above this size do not stay in the L2 cache from one layer to the next run.
const FAR_WEIGHT_BYTES: usize = 1 << 20;

/// A part of K that is contiguous in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<X> {
    /// The activations of pixel 0.
    pub(crate) x: *const X,
    /// The first K step of the segment in the packed weights.
    pub(crate) k: usize,
}

/// The dimensions of packed weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenseShape {
    pub(crate) ic_per_group: usize,
    pub(crate) oc_per_group: usize,
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// Elements of K that one step of a tile takes.
    pub(crate) k_step: usize,
    /// Bytes of all weights.
    pub(crate) weight_bytes: usize,
}

impl DenseShape {
    pub(crate) fn vectors_per_group(&self) -> usize {
        self.oc_per_group.div_ceil(self.lanes)
    }
}

/// Where a tile is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TilePlace {
    /// The first vector of output channels, counted over all groups, and their number.
    pub(crate) vector: usize,
    pub(crate) n_vectors: usize,
    pub(crate) n_pixels: usize,
    /// Added to the address of every segment.
    pub(crate) x_offset: usize,
    pub(crate) pixel_stride: usize,
    /// Elements of a segment.
    pub(crate) length: usize,
    /// The first output element.
    pub(crate) out_offset: usize,
    /// Lanes of the last vector that exist.
    pub(crate) last_lanes: usize,
    /// How many tiles of these vectors were before it, where all tiles of some vectors come before the next vectors, whose
    /// weights are far away.
    pub(crate) tile_idx: Option<usize>,
}

/// The arithmetic of a dense convolution: `In` is stored, `X` is multiplied.
pub(crate) trait DenseKernel<In, X>: Sync {
    /// True when `In` must be converted to `X` even without padding.
    const CONVERTS: bool;
    /// The value of the padding.
    fn padding(&self) -> X;
    /// Converts stored activations.
    fn convert(&self, from: &[In], to: &mut [X]);
    /// Vectors of output channels in one tile, for rows of `n_pixels`.
    fn tile_vectors(&self, n_pixels: usize, n_vectors: usize) -> usize;
    /// Pixels that a tile of so many vectors can have.
    fn max_pixels(&self, n_vectors: usize) -> usize;
    /// Computes one tile.
    ///
    /// # Safety
    /// The segments are readable over the tile, and nobody else writes its outputs.
    unsafe fn tile(&self, segments: &[Segment<X>], place: &TilePlace);
}

/// Runs a dense convolution; `after` is called once for every part of the outputs, when it is written.
pub(crate) fn run<In: Plain, X: Plain, K: DenseKernel<In, X>>(
    kernel: &K,
    shape: &DenseShape,
    geometry: &ConvGeometry,
    x: &[In],
    after: &After<'_>,
) {
    if geometry.n_outputs() == 0 {
        return;
    }
    let g = geometry;
    let flat = Plan::is_flat(g);
    let row_elements = if flat {
        g.ic + g.oc
    } else {
        (g.iw + g.pad_left + g.pad_right) * g.ic * g.stride_h
    };
    let cost = BandCost {
        flat,
        macs: g.n_outputs() * shape.ic_per_group * g.kh * g.kw,
        weight_bytes: shape.weight_bytes,
        row_bytes: row_elements * size_of::<X>(),
        band_bytes: BAND_BYTES,
    };
    let task = |band: &Band, split, n_splits| run_band(kernel, shape, g, x, band, (split, n_splits));
    Plan::new(g, &cost).run(task, after);
}

fn run_band<In: Plain, X: Plain, K: DenseKernel<In, X>>(
    kernel: &K,
    shape: &DenseShape,
    g: &ConvGeometry,
    x: &[In],
    band: &Band,
    split: (usize, usize),
) {
    let x = &x[band.x_offset..][..band.ih * band.iw * g.ic];
    let taps_per_segment = if g.group == 1 && g.dilation_w == 1 {
        g.kw
    } else {
        1
    };
    let length = taps_per_segment * shape.ic_per_group;
    let copies = K::CONVERTS || g.is_padded() || !length.is_multiple_of(shape.k_step);
    let mut tiles = BandTiles {
        kernel,
        shape,
        geometry: g,
        band,
        base: std::ptr::null(),
        row_stride: band.iw * g.ic,
        taps_per_segment,
    };
    if !copies {
        tiles.base = x[band.first_row * g.stride_h * tiles.row_stride..]
            .as_ptr()
            .cast();
        tiles.run(split);
        return;
    }
    let (n_rows, width) = band.padded_size(g);
    tiles.row_stride = width * g.ic;
    // The last step of K may read past the last pixel.
    with_scratch(n_rows * tiles.row_stride + shape.k_step, |scratch: &mut [X]| {
        band.copy_rows(g, x, kernel.padding(), scratch, |from, to| {
            kernel.convert(from, to)
        });
        tiles.base = scratch.as_ptr();
        tiles.run(split);
    });
}

/// The tiles of a band over input rows in memory.
struct BandTiles<'a, X, K> {
    kernel: &'a K,
    shape: &'a DenseShape,
    geometry: &'a ConvGeometry,
    band: &'a Band,
    /// The first input row that the band reads, and the distance of rows.
    base: *const X,
    row_stride: usize,
    /// Taps of a kernel row that are contiguous in memory.
    taps_per_segment: usize,
}

impl<X, K> BandTiles<'_, X, K> {
    fn run<In>(&self, (split, n_splits): (usize, usize))
    where
        K: DenseKernel<In, X>,
    {
        let (g, shape) = (self.geometry, self.shape);
        let per_group = shape.vectors_per_group();
        let tile_vectors = self.kernel.tile_vectors(self.band.ow, per_group);
        let n_blocks = per_group.div_ceil(tile_vectors) * g.group;
        let blocks = n_blocks * split / n_splits..n_blocks * (split + 1) / n_splits;
        let mut segments = Vec::with_capacity(g.kh * g.kw);
        let is_far = shape.weight_bytes > FAR_WEIGHT_BYTES;
        if shape.weight_bytes > RESIDENT_WEIGHT_BYTES {
            for block in blocks {
                let n_vectors = self.block_vectors(block, tile_vectors).1;
                let mut tile_idx = 0;
                for row in 0..self.band.n_rows {
                    self.set_row(row, &mut segments);
                    for (first, n_pixels) in equal_tiles(self.band.ow, self.kernel.max_pixels(n_vectors)) {
                        self.tile(
                            &segments,
                            (block, tile_vectors, is_far.then_some(tile_idx)),
                            row,
                            first,
                            n_pixels,
                        );
                        tile_idx += 1;
                    }
                }
            }
            return;
        }
        let max_pixels = self.kernel.max_pixels(tile_vectors);
        for row in 0..self.band.n_rows {
            self.set_row(row, &mut segments);
            for (first, n_pixels) in equal_tiles(self.band.ow, max_pixels) {
                for block in blocks.clone() {
                    self.tile(&segments, (block, tile_vectors, None), row, first, n_pixels);
                }
            }
        }
    }

    /// The group of a block, its number of vectors, and the first of them in the group.
    fn block_vectors(&self, block: usize, tile_vectors: usize) -> (usize, usize, usize) {
        let per_group = self.shape.vectors_per_group();
        let blocks_per_group = per_group.div_ceil(tile_vectors);
        let first = block % blocks_per_group * tile_vectors;
        (
            block / blocks_per_group,
            tile_vectors.min(per_group - first),
            first,
        )
    }

    fn set_row(&self, row: usize, segments: &mut Vec<Segment<X>>) {
        let g = self.geometry;
        let k_steps = (self.taps_per_segment * self.shape.ic_per_group).div_ceil(self.shape.k_step);
        segments.clear();
        for kh in 0..g.kh {
            let line = (row * g.stride_h + kh * g.dilation_h) * self.row_stride;
            for kw in (0..g.kw).step_by(self.taps_per_segment) {
                segments.push(Segment {
                    x: self.base.wrapping_add(line + kw * g.dilation_w * g.ic),
                    k: segments.len() * k_steps,
                });
            }
        }
    }

    fn tile<In>(
        &self,
        segments: &[Segment<X>],
        (block, tile_vectors, tile_idx): (usize, usize, Option<usize>),
        row: usize,
        first: usize,
        n_pixels: usize,
    ) where
        K: DenseKernel<In, X>,
    {
        let (g, shape) = (self.geometry, self.shape);
        let (group, n_vectors, in_group) = self.block_vectors(block, tile_vectors);
        let channel = group * shape.oc_per_group + in_group * shape.lanes;
        let last = shape.oc_per_group - (in_group + n_vectors - 1) * shape.lanes;
        let place = TilePlace {
            vector: group * shape.vectors_per_group() + in_group,
            n_vectors,
            n_pixels,
            x_offset: first * g.stride_w * g.ic + group * shape.ic_per_group,
            pixel_stride: g.stride_w * g.ic,
            length: self.taps_per_segment * shape.ic_per_group,
            out_offset: self.band.out_offset + (row * self.band.ow + first) * g.oc + channel,
            last_lanes: last.min(shape.lanes),
            tile_idx,
        };
        // SAFETY: the rows hold every tap of the band, and tiles of another place write other outputs.
        unsafe { self.kernel.tile(segments, &place) }
    }
}

/// Vectors of output channels in one tile: the most that tiles can have for short rows, else two.
pub(crate) fn tile_vectors(n_pixels: usize, n_vectors: usize, most: usize, most_pixels: usize) -> usize {
    let wanted = if n_pixels <= most_pixels || n_vectors == 3 {
        most
    } else {
        2
    };
    wanted.min(n_vectors)
}

/// Splits a row of pixels into the fewest tiles, of nearly equal size: `(first, n_pixels)`.
pub(crate) fn equal_tiles(n_pixels: usize, max_pixels: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_tiles = n_pixels.div_ceil(max_pixels);
    (0..n_tiles).map(move |i| {
        let (first, end) = (n_pixels * i / n_tiles, n_pixels * (i + 1) / n_tiles);
        (first, end - first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_row_and_differ_by_one_at_most() {
        for (n_pixels, max_pixels) in [(56, 14), (57, 14), (5, 14), (29, 14), (1, 1)] {
            let tiles: Vec<_> = equal_tiles(n_pixels, max_pixels).collect();
            let mut next = 0;
            for &(first, n) in &tiles {
                assert_eq!(first, next, "{tiles:?}");
                assert!(n <= max_pixels && n >= n_pixels / tiles.len(), "{tiles:?}");
                next += n;
            }
            assert_eq!(next, n_pixels, "{tiles:?}");
        }
    }
}

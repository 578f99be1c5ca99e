//! Weights packed as AMX tiles.
//!
//! K is cut into segments, parts whose activations are contiguous in memory, and a segment into equal chunks of at most
//! 64 bytes: one tile of activations. A tile of weights holds one chunk for 16 output channels, four values of K in every
//! 32 bits, and is 0 beyond the end of a segment and the last channel of a group.

use crate::buffer::Aligned;
use crate::i8::folded_bias::FoldedBias;
use crate::i8::panels::WeightShape;

/// Output channels of a tile.
pub(super) const LANES: usize = 16;
/// Tiles of output channels that are computed together.
pub(super) const BLOCK_TILES: usize = 2;
/// Steps of four bytes in the largest tile of activations.
const MAX_STEPS: usize = 16;
const STEP_BYTES: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct TileWeights {
    /// With groups merged.
    pub(super) shape: WeightShape,
    /// Taps of a segment: all, those of a kernel row, or one.
    pub(super) taps_per_segment: usize,
    pub(super) n_segments: usize,
    pub(super) chunks_per_segment: usize,
    /// Steps of four bytes in a chunk.
    pub(super) chunk_steps: usize,
    pub(super) bias: FoldedBias,
    /// `[group][block][chunk][tile of the block][step][lane][4]`.
    packed: Aligned<i8>,
}

/// Blocks of output channels: consecutive tiles of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) group: usize,
    /// The first tile, counted over all groups.
    pub(super) tile: usize,
    /// The first channel.
    pub(super) channel: usize,
    pub(super) n_tiles: usize,
    /// Channels of the last tile.
    pub(super) last_lanes: usize,
    pub(super) weight: *const i8,
}

impl TileWeights {
    pub(super) fn new(shape: WeightShape, weight: &[i8], bias: &[i32]) -> Self {
        let (shape, merged) = merge_groups(shape, weight);
        let weight = merged.as_deref().unwrap_or(weight);
        let (taps, icg) = (shape.kh * shape.kw, shape.ic_per_group);
        let taps_per_segment = taps_per_segment(&shape);
        let n_segments = taps / taps_per_segment;
        let (chunks_per_segment, chunk_steps) = if taps_per_segment > shape.kw {
            // Copied patches are aligned to cache lines.
            ((taps * icg).div_ceil(STEP_BYTES * MAX_STEPS), MAX_STEPS)
        } else {
            chunks(taps_per_segment * icg)
        };
        let oc_per_group = shape.oc / shape.group;
        let mut packed = Self {
            shape,
            taps_per_segment,
            n_segments,
            chunks_per_segment,
            chunk_steps,
            bias: FoldedBias::new(Aligned::zeroed(0), Vec::new()),
            packed: Aligned::zeroed(0),
        };
        let n_tiles = packed.tiles_per_group() * shape.group;
        let mut tiles = Aligned::zeroed(n_tiles * packed.n_chunks() * packed.tile_bytes());
        let mut padded_bias = Aligned::zeroed(n_tiles * LANES);
        let mut weight_sum = vec![0_i32; n_tiles * LANES];
        for (channel, &bias) in bias.iter().enumerate() {
            let (group, in_group) = (channel / oc_per_group, channel % oc_per_group);
            let own = &weight[channel * taps * icg..][..taps * icg];
            let padded = group * packed.tiles_per_group() * LANES + in_group;
            padded_bias.as_mut_slice()[padded] = bias;
            weight_sum[padded] = own.iter().map(|&w| i32::from(w)).sum();
            packed.pack_channel(own, group, in_group, tiles.as_mut_slice());
        }
        packed.bias = FoldedBias::new(padded_bias, weight_sum);
        packed.packed = tiles;
        packed
    }

    fn pack_channel(&self, own: &[i8], group: usize, in_group: usize, to: &mut [i8]) {
        let (taps, chunk_bytes) = (self.shape.kh * self.shape.kw, self.chunk_bytes());
        let (block, tile) = (in_group / LANES / BLOCK_TILES, in_group / LANES % BLOCK_TILES);
        let block_tiles = BLOCK_TILES.min(self.tiles_per_group() - block * BLOCK_TILES);
        let first_tile = group * self.tiles_per_group() + block * BLOCK_TILES;
        let to = &mut to[first_tile * self.n_chunks() * self.tile_bytes()..];
        for tap in 0..taps {
            let first_chunk = tap / self.taps_per_segment * self.chunks_per_segment;
            for i in 0..self.shape.ic_per_group {
                let k = tap % self.taps_per_segment * self.shape.ic_per_group + i;
                let (chunk, k) = (first_chunk + k / chunk_bytes, k % chunk_bytes);
                let at = (chunk * block_tiles + tile) * self.tile_bytes();
                let lane = in_group % LANES;
                to[at + (k / STEP_BYTES * LANES + lane) * STEP_BYTES + k % STEP_BYTES] = own[i * taps + tap];
            }
        }
    }

    pub(super) fn n_chunks(&self) -> usize {
        self.n_segments * self.chunks_per_segment
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_steps * STEP_BYTES
    }

    /// Bytes of the chunks of a segment, which can be more than the segment has.
    pub(super) fn segment_bytes(&self) -> usize {
        self.chunks_per_segment * self.chunk_bytes()
    }

    pub(super) fn tile_bytes(&self) -> usize {
        self.chunk_bytes() * LANES
    }

    /// Bytes of a block of all its tiles.
    pub(super) fn block_bytes(&self) -> usize {
        BLOCK_TILES * self.n_chunks() * self.tile_bytes()
    }

    pub(super) fn bytes(&self) -> usize {
        self.packed.as_slice().len()
    }

    pub(super) fn tiles_per_group(&self) -> usize {
        (self.shape.oc / self.shape.group).div_ceil(LANES)
    }

    fn blocks_per_group(&self) -> usize {
        self.tiles_per_group().div_ceil(BLOCK_TILES)
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.blocks_per_group() * self.shape.group
    }

    pub(super) fn block(&self, idx: usize) -> Block {
        let (group, block) = (idx / self.blocks_per_group(), idx % self.blocks_per_group());
        let per_group = self.tiles_per_group();
        let oc_per_group = self.shape.oc / self.shape.group;
        let tile = group * per_group + block * BLOCK_TILES;
        let n_tiles = BLOCK_TILES.min(per_group - block * BLOCK_TILES);
        let last = oc_per_group - (block * BLOCK_TILES + n_tiles - 1) * LANES;
        Block {
            group,
            tile,
            channel: group * oc_per_group + block * BLOCK_TILES * LANES,
            n_tiles,
            last_lanes: last.min(LANES),
            weight: self.packed.as_slice()[tile * self.n_chunks() * self.tile_bytes()..].as_ptr(),
        }
    }
}

/// Cuts a segment into equal chunks: `(chunks, steps of a chunk)`, without a rest if a few chunks more allow it.
fn chunks(segment_bytes: usize) -> (usize, usize) {
    let steps = segment_bytes.div_ceil(STEP_BYTES);
    let least = steps.div_ceil(MAX_STEPS).max(1);
    let without_rest = (least..=least + least / 4).find(|n| steps.is_multiple_of(*n));
    let n = without_rest.unwrap_or(least);
    (n, steps.div_ceil(n).max(1))
}

/// Whole kernels where rows of them fill their tiles so badly that copying every kernel into one piece is cheaper.
fn taps_per_segment(shape: &WeightShape) -> usize {
    /// Products of tiles that copying 16 times 64 bytes costs.
    const COPY_COST: usize = 2;
    if shape.group > 1 {
        return 1;
    }
    let row = shape.kw * shape.ic_per_group;
    let by_rows = shape.kh * chunks(row).0;
    let saved = by_rows.saturating_sub(chunks(shape.kh * row).0) * shape.oc.div_ceil(LANES);
    let copies = shape.kh * row.div_ceil(64);
    if saved > COPY_COST * copies {
        shape.kh * shape.kw
    } else {
        shape.kw
    }
}

/// Merges neighbouring groups, with weights of 0 between them, while they fit the tiles that one group would take.
fn merge_groups(shape: WeightShape, weight: &[i8]) -> (WeightShape, Option<Vec<i8>>) {
    let (icg, taps) = (shape.ic_per_group, shape.kh * shape.kw);
    let oc_per_group = shape.oc / shape.group;
    let fits = |n: &usize| {
        shape.group.is_multiple_of(*n)
            && n * icg <= MAX_STEPS * STEP_BYTES
            && (n - 1) * oc_per_group < BLOCK_TILES * LANES
    };
    let n = (1..=shape.group).take(64).filter(fits).max().unwrap_or(1);
    if n == 1 {
        return (shape, None);
    }
    let mut merged = vec![0; weight.len() * n];
    for (channel, own) in weight.chunks_exact((icg * taps).max(1)).enumerate() {
        let member = channel / oc_per_group % n;
        merged[(channel * n + member) * icg * taps..][..icg * taps].copy_from_slice(own);
    }
    let shape = WeightShape {
        ic_per_group: icg * n,
        group: shape.group / n,
        ..shape
    };
    (shape, Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_equal_and_hold_the_segment() {
        for (bytes, expected) in [
            (1, (1, 1)),
            (64, (1, 16)),
            (72, (2, 9)),
            (96, (2, 12)),
            (147, (3, 13)),
            (160, (3, 14)),
            (672, (12, 14)),
            (4608, (72, 16)),
        ] {
            assert_eq!(chunks(bytes), expected, "{bytes} bytes");
        }
    }

    #[test]
    fn small_groups_share_a_tile() {
        let shape = WeightShape {
            oc: 8,
            ic_per_group: 2,
            kh: 1,
            kw: 1,
            group: 4,
        };
        let weight: Vec<i8> = (1..=16).collect();
        let (merged, weight) = merge_groups(shape, &weight);
        assert_eq!((merged.group, merged.ic_per_group), (1, 8));
        let row = |channel: usize| weight.as_ref().unwrap()[channel * 8..][..8].to_vec();
        assert_eq!(row(0), [1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(row(7), [0, 0, 0, 0, 0, 0, 15, 16]);
    }
}

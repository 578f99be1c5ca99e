//! Dense integer convolution with AMX tiles of bytes: where the activations are read, bands, threads.
//!
//! A tile of activations is up to 16 pixels of an output row, read where they are. The activations under a kernel are
//! first copied into one piece for every pixel where rows are short, or where kernel rows would fill tiles badly.

mod blocks;
mod drain;
mod patches;
mod tiles;
mod weights;

use std::borrow::Cow;

use blocks::{Job, SCRATCH};
use patches::{Kernels, Patches, Piece};
use weights::{LANES, TileWeights};

use super::folded_bias::padded;
use super::panels::WeightShape;
use super::vector::Output;
use crate::bands::{Band, BandCost, Plan};
use crate::buffer::with_scratch;
use crate::{ConvGeometry, QuantizedSlice};

const LINE_BYTES: usize = 64;
/// Activations of a band beside large weights: a part of the L2 cache.
const BAND_BYTES: usize = 256 * 1024;
/// Rows of at most so many pixels fill tiles badly..
const SHORT_ROW: usize = 8;
/// ..which is worth copying patches for so many output channels.
const MIN_PATCH_CHANNELS: usize = 128;

/// A dense integer convolution packed for AMX.
#[derive(Clone, Debug)]
pub(crate) struct AmxConv {
    weights: TileWeights,
}

/// One run of a convolution.
struct Run<'a> {
    weights: &'a TileWeights,
    /// With groups merged.
    geometry: ConvGeometry,
    x: &'a [u8],
    signed: bool,
    x_zero_point: i32,
    bias: &'a [i32],
    output: Output,
    flat: bool,
    patches: bool,
}

impl AmxConv {
    pub(crate) fn new(shape: WeightShape, weight: &[i8], bias: &[i32]) -> Self {
        Self {
            weights: TileWeights::new(shape, weight, bias),
        }
    }

    /// Multipliers of the channels as [`AmxConv::conv`] reads them.
    pub(crate) fn padded<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        let shape = &self.weights.shape;
        padded(
            values,
            shape.oc,
            shape.group,
            self.weights.tiles_per_group() * LANES,
        )
    }

    /// Convolves into `output`, whose multipliers are [`AmxConv::padded`].
    pub(crate) fn conv(&self, x: QuantizedSlice<'_>, g: &ConvGeometry, x_zero_point: i32, output: Output) {
        if g.n_outputs() == 0 {
            return;
        }
        let weights = &self.weights;
        let g = ConvGeometry {
            group: weights.shape.group,
            ..*g
        };
        let flat = Plan::is_flat(&g);
        let must_copy = weights.taps_per_segment > g.kw || (weights.taps_per_segment > 1 && g.dilation_w > 1);
        let should_copy =
            !flat && g.group == 1 && g.ow() <= SHORT_ROW && g.oh() > 1 && g.oc >= MIN_PATCH_CHANNELS;
        let (x, signed): (&[u8], bool) = match x {
            QuantizedSlice::U8(x) => (x, false),
            // SAFETY: i8 and u8 have the same size, and any bits are a value of both.
            QuantizedSlice::I8(x) => (
                unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) },
                true,
            ),
        };
        let run = Run {
            weights,
            geometry: g,
            x,
            signed,
            x_zero_point,
            bias: &weights.bias.of(x_zero_point),
            output,
            flat,
            patches: must_copy || should_copy,
        };
        run.plan()
            .run(|band, split, n_splits| run.band(band, split, n_splits), &|_| ());
    }
}

impl Run<'_> {
    fn patch_bytes(&self) -> usize {
        let weights = self.weights;
        let last = weights.taps_per_segment * weights.shape.ic_per_group;
        ((weights.n_segments - 1) * weights.segment_bytes() + last).next_multiple_of(LINE_BYTES)
    }

    fn plan(&self) -> Plan {
        let g = &self.geometry;
        let row_bytes = if self.flat {
            g.ic + g.oc
        } else if self.patches {
            g.ow() * self.patch_bytes()
        } else {
            (g.iw + g.pad_left + g.pad_right) * g.ic * g.stride_h
        };
        Plan::new(
            g,
            &BandCost {
                flat: self.flat,
                macs: g.n_outputs() * self.weights.shape.ic_per_group * g.kh * g.kw,
                weight_bytes: self.weights.bytes(),
                row_bytes,
                band_bytes: BAND_BYTES,
            },
        )
    }

    fn band(&self, band: &Band, split: usize, n_splits: usize) {
        let (g, weights) = (&self.geometry, self.weights);
        let n_blocks = weights.n_blocks();
        let blocks = n_blocks * split / n_splits..n_blocks * (split + 1) / n_splits;
        let (in_rows, in_width) = band.padded_size(g);
        let patch_bytes = if self.patches { self.patch_bytes() } else { 0 };
        // Chunks can be longer than their segment.
        let segment = weights.taps_per_segment * weights.shape.ic_per_group;
        let beyond = if self.patches {
            0
        } else {
            weights.segment_bytes() - segment
        };
        let first = band.x_offset + band.first_row * g.stride_h * band.iw * g.ic;
        let end = first + ((in_rows - 1) * band.iw + in_width) * g.ic;
        let copies = g.is_padded() || end + beyond > self.x.len();
        let copied_bytes = if copies {
            (in_rows * in_width * g.ic + beyond).next_multiple_of(LINE_BYTES)
        } else {
            0
        };
        let patches_bytes = band.n_rows * band.ow * patch_bytes + LINE_BYTES;
        let acc_bytes = SCRATCH * size_of::<i32>();
        with_scratch(
            acc_bytes + copied_bytes + patches_bytes,
            |scratch: &mut [u8]| {
                let (acc, scratch) = scratch.split_at_mut(acc_bytes);
                let (rows, patches) = scratch.split_at_mut(copied_bytes);
                let (x, in_stride) = if copies {
                    let image = &self.x[band.x_offset..][..band.ih * band.iw * g.ic];
                    let padding = self.x_zero_point as u8;
                    band.copy_rows(g, image, padding, rows, |from, to| to.copy_from_slice(from));
                    (rows.as_ptr(), in_width * g.ic)
                } else {
                    (self.x[first..].as_ptr(), band.iw * g.ic)
                };
                let mut job = Job {
                    weights,
                    x,
                    pixel_stride: g.stride_w * g.ic,
                    row_stride: g.stride_h * in_stride,
                    n_rows: band.n_rows,
                    width: band.ow,
                    group_stride: weights.shape.ic_per_group,
                    chunks: &[],
                    bias: self.bias.as_ptr(),
                    output: self.output,
                    out_offset: band.out_offset,
                    out_stride: g.oc,
                    scratch: acc.as_mut_ptr().cast(),
                };
                let mut chunks = Vec::with_capacity(weights.n_chunks());
                if self.patches {
                    let from = Kernels {
                        x,
                        pixel_stride: job.pixel_stride,
                        row_stride: job.row_stride,
                        n_rows: band.n_rows,
                        width: band.ow,
                    };
                    let layout = Patches::new(&self.pieces(in_stride));
                    debug_assert!(layout.bytes() == patch_bytes, "bytes of a patch");
                    // SAFETY: the machine has AVX-512; the rows hold all that is under the kernels of the band.
                    unsafe { layout.copy(&from, patches.as_mut_ptr()) };
                    job.x = patches.as_ptr();
                    (job.pixel_stride, job.row_stride) = (patch_bytes, 0);
                    (job.n_rows, job.width) = (1, band.n_rows * band.ow);
                    chunks.extend((0..weights.n_chunks()).map(|chunk| chunk * weights.chunk_bytes()));
                } else {
                    for segment in 0..weights.n_segments {
                        let tap = segment * weights.taps_per_segment;
                        let start = self.tap_offset(tap, in_stride);
                        chunks.extend(
                            (0..weights.chunks_per_segment)
                                .map(|chunk| start + chunk * weights.chunk_bytes()),
                        );
                    }
                }
                job.chunks = &chunks;
                // SAFETY: the instruction set was required to be available; the rows or patches hold every chunk of every
                // pixel, and other bands and splits write other outputs.
                unsafe { job.run(self.signed, blocks) };
            },
        );
    }

    fn tap_offset(&self, tap: usize, in_stride: usize) -> usize {
        let g = &self.geometry;
        tap / g.kw * g.dilation_h * in_stride + tap % g.kw * g.dilation_w * g.ic
    }

    /// Where the parts of a patch that are contiguous in the input are there and in the patch.
    fn pieces(&self, in_stride: usize) -> Vec<Piece> {
        let (g, weights) = (&self.geometry, self.weights);
        let taps_at_once = if g.dilation_w > 1 { 1 } else { g.kw };
        let taps = (0..g.kh * g.kw).step_by(taps_at_once);
        taps.map(|tap| {
            let (segment, in_segment) = (tap / weights.taps_per_segment, tap % weights.taps_per_segment);
            Piece {
                from: self.tap_offset(tap, in_stride),
                to: segment * weights.segment_bytes() + in_segment * g.ic,
                length: taps_at_once * g.ic,
            }
        })
        .collect()
    }
}

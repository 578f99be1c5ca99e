//! Float transposed convolution on the tiles of the dense one.
//!
//! Outputs of one phase (position modulo stride) meet the same taps, and neighbours of a phase read neighbouring
//! pixels: each phase of a row is a row of tiles whose segments are its taps.

use rayon::prelude::*;

use super::panels::{Panels, Run};
use crate::buffer::Aligned;
use crate::dense::{DenseKernel, Segment, TilePlace, equal_tiles};
use crate::{ConvGeometry, ConvTransposeGeometry, parallel};

/// One axis of a transposed convolution.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

impl Axis {
    /// The taps that reach `output`, with the input position that each reads, which may be outside.
    fn taps(&self, output: usize) -> impl Iterator<Item = (usize, isize)> {
        let axis = *self;
        (0..axis.kernel).filter_map(move |tap| {
            let from = (output + axis.pad) as isize - (tap * axis.dilation) as isize;
            let stride = axis.stride as isize;
            (from.rem_euclid(stride) == 0).then_some((tap, from.div_euclid(stride)))
        })
    }

    /// How far taps reach before and behind the input.
    fn margins(&self) -> (usize, usize) {
        let first = 0..self.stride.min(self.output);
        let last = self.output.saturating_sub(self.stride)..self.output;
        let positions =
            |outputs: std::ops::Range<usize>| outputs.flat_map(|output| self.taps(output)).map(|(_, at)| at);
        let lowest = positions(first).min().unwrap_or(0);
        let highest = positions(last).max().unwrap_or(0);
        let behind = (highest + 1 - self.input as isize).max(0);
        ((-lowest).max(0) as usize, behind as usize)
    }
}

impl Panels {
    /// Runs a transposed convolution over weights packed as `[tap][ic]`.
    pub(crate) fn conv_transpose(
        &self,
        x: &[f32],
        geometry: &ConvTransposeGeometry,
        clamp: (f32, f32),
        out: &mut [f32],
    ) {
        let g = &geometry.conv;
        let rows = Axis {
            input: g.ih,
            output: geometry.oh(),
            kernel: g.kh,
            stride: g.stride_h,
            dilation: g.dilation_h,
            pad: g.pad_top,
        };
        let columns = Axis {
            input: g.iw,
            output: geometry.ow(),
            kernel: g.kw,
            stride: g.stride_w,
            dilation: g.dilation_w,
            pad: g.pad_left,
        };
        if out.is_empty() {
            return;
        }
        let (top, bottom) = rows.margins();
        let (left, right) = columns.margins();
        let width = left + g.iw + right;
        let padded_image = (top + g.ih + bottom) * width * g.ic;
        let run = Run {
            panels: self,
            clamp,
            out: out.as_mut_ptr(),
            out_stride: g.stride_w * g.oc,
        };
        let all_rows = |x: &[f32], width: usize, image: usize, origin: usize| {
            let row = |i: usize| {
                let base = x[i / rows.output * image..].as_ptr().wrapping_add(origin);
                let (oy, out_row) = (i % rows.output, i * columns.output);
                run.transposed_row(g, (&rows, oy), &columns, base, width * g.ic, out_row);
            };
            let n_rows = g.n * rows.output;
            if parallel::runs_here(n_rows * columns.output * g.oc) {
                (0..n_rows).for_each(row);
            } else {
                (0..n_rows).into_par_iter().for_each(row);
            }
        };
        if top + bottom + left + right == 0 {
            all_rows(x, g.iw, g.ih * g.iw * g.ic, 0);
            return;
        }
        let mut padded = Aligned::zeroed(g.n * padded_image);
        for (row, x) in x.chunks_exact(g.iw * g.ic).enumerate() {
            let to = row / g.ih * padded_image + ((top + row % g.ih) * width + left) * g.ic;
            padded.as_mut_slice()[to..to + x.len()].copy_from_slice(x);
        }
        all_rows(
            padded.as_slice(),
            width,
            padded_image,
            (top * width + left) * g.ic,
        );
    }
}

impl Run<'_> {
    /// One output row: every phase of its columns. `base` is the first pixel of the input image.
    fn transposed_row(
        &self,
        g: &ConvGeometry,
        (rows, oy): (&Axis, usize),
        columns: &Axis,
        base: *const f32,
        row_stride: usize,
        out_row: usize,
    ) {
        let shape = self.panels.shape();
        let per_group = shape.vectors_per_group();
        let mut segments = Vec::with_capacity(g.kh * g.kw);
        for phase in 0..g.stride_w.min(columns.output) {
            segments.clear();
            for (kh, iy) in rows.taps(oy) {
                for (kw, ix) in columns.taps(phase) {
                    let offset = iy * row_stride as isize + ix * g.ic as isize;
                    let k = (kh * g.kw + kw) * shape.ic_per_group;
                    segments.push(Segment {
                        x: base.wrapping_offset(offset),
                        k,
                    });
                }
            }
            let n_pixels = (columns.output - phase).div_ceil(g.stride_w);
            let tile_vectors = self.tile_vectors(n_pixels, per_group);
            for (first, n_pixels) in equal_tiles(n_pixels, self.max_pixels(tile_vectors)) {
                for group in 0..g.group {
                    for in_group in (0..per_group).step_by(tile_vectors) {
                        let n_vectors = tile_vectors.min(per_group - in_group);
                        let channel = group * shape.oc_per_group + in_group * shape.lanes;
                        let last = shape.oc_per_group - (in_group + n_vectors - 1) * shape.lanes;
                        let place = TilePlace {
                            vector: group * per_group + in_group,
                            n_vectors,
                            n_pixels,
                            x_offset: first * g.ic + group * shape.ic_per_group,
                            pixel_stride: g.ic,
                            length: shape.ic_per_group,
                            out_offset: (out_row + phase + first * g.stride_w) * g.oc + channel,
                            last_lanes: last.min(shape.lanes),
                            tile_idx: None,
                        };
                        // SAFETY: the margins hold every tap, and every output belongs to one tile of one row.
                        unsafe { self.tile(&segments, &place) }
                    }
                }
            }
        }
    }
}

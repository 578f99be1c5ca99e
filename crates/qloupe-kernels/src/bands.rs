//! Splitting a convolution into bands of output rows, and copying the input rows of a band with their padding.
//!
//! Shared by the dense kernels. A band that is copied holds whole padded rows, so that a kernel row is contiguous.

use rayon::prelude::*;

use crate::ConvGeometry;

/// Weights above this size stay in the outer loop, so that a block of output channels is read once for each band.
pub(crate) const RESIDENT_WEIGHT_BYTES: usize = 256 * 1024;
/// Pixels of the smallest band of a matrix product: a few tiles.
const MIN_BAND_PIXELS: usize = 56;
/// Convolutions with fewer multiply-adds run on one thread.
const MIN_PARALLEL_MACS: usize = 1 << 19;

/// What follows a part of the outputs, `[start, end)` in elements, while it is hot.
pub(crate) type After<'a> = dyn Fn(std::ops::Range<usize>) + Sync + 'a;

/// A part of the output: some rows of one image.
pub(crate) struct Band {
    pub(crate) x_offset: usize,
    pub(crate) out_offset: usize,
    pub(crate) ih: usize,
    pub(crate) iw: usize,
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    pub(crate) ow: usize,
}

/// What decides the size of a band.
pub(crate) struct BandCost {
    /// One row of pixels without borders: a matrix product.
    pub(crate) flat: bool,
    pub(crate) macs: usize,
    pub(crate) weight_bytes: usize,
    /// Bytes of one row of the band, or of one pixel when flat.
    pub(crate) row_bytes: usize,
    /// Bytes that a band should not exceed.
    pub(crate) band_bytes: usize,
}

pub(crate) struct Plan {
    geometry: ConvGeometry,
    flat: bool,
    n_bands: usize,
    /// Rows of a band; pixels when flat.
    band_size: usize,
    n_splits: usize,
}

impl Plan {
    /// True when the convolution is a matrix product.
    pub(crate) fn is_flat(g: &ConvGeometry) -> bool {
        g.kh * g.kw * g.stride_h * g.stride_w == 1 && !g.is_padded()
    }

    /// Threads split bands of rows, or output channels when the image is small and the weights are large.
    pub(crate) fn new(g: &ConvGeometry, cost: &BandCost) -> Self {
        let threads = if cost.macs < MIN_PARALLEL_MACS {
            1
        } else {
            rayon::current_num_threads()
        };
        let parts = if threads == 1 { 1 } else { 2 * threads };
        let (images, total) = if cost.flat {
            (1, g.n * g.oh() * g.ow())
        } else {
            (g.n, g.oh())
        };
        let least = if cost.flat { MIN_BAND_PIXELS.min(total) } else { 1 };
        let mut band_size = (cost.band_bytes / cost.row_bytes.max(1)).clamp(least, total);
        let mut n_splits = 1;
        if images * total.div_ceil(band_size) < parts {
            if cost.weight_bytes > RESIDENT_WEIGHT_BYTES {
                n_splits = parts;
            } else {
                band_size = total.div_ceil(parts.div_ceil(images)).max(least);
            }
        }
        let bands_per_image = total.div_ceil(band_size);
        Self {
            geometry: *g,
            flat: cost.flat,
            n_bands: images * bands_per_image,
            band_size: total.div_ceil(bands_per_image),
            n_splits,
        }
    }

    /// Calls `task(band, split, number of splits of the output channels)` for all of them, on the current threads, and
    /// `after` for the outputs of every band once they are written.
    pub(crate) fn run(&self, task: impl Fn(&Band, usize, usize) + Sync, after: &After<'_>) {
        let n_tasks = self.n_bands * self.n_splits;
        let oc = self.geometry.oc;
        let task = |idx: usize| {
            let band = self.band(idx / self.n_splits);
            if band.n_rows > 0 {
                task(&band, idx % self.n_splits, self.n_splits);
                if self.n_splits == 1 {
                    after(band.outputs(oc));
                }
            }
        };
        if n_tasks == 1 || rayon::current_num_threads() == 1 {
            (0..n_tasks).for_each(task);
        } else {
            (0..n_tasks).into_par_iter().for_each(task);
        }
        if self.n_splits > 1 {
            let bands = (0..self.n_bands).into_par_iter();
            bands.for_each(|idx| after(self.band(idx).outputs(oc)));
        }
    }

    fn band(&self, idx: usize) -> Band {
        let g = &self.geometry;
        if self.flat {
            let first = idx * self.band_size;
            let total = g.n * g.ih * g.iw;
            let pixels = self.band_size.min(total.saturating_sub(first));
            return Band {
                x_offset: first * g.ic,
                out_offset: first * g.oc,
                ih: 1,
                iw: pixels,
                first_row: 0,
                n_rows: usize::from(pixels > 0),
                ow: pixels,
            };
        }
        let (oh, ow) = (g.oh(), g.ow());
        let bands_per_image = oh.div_ceil(self.band_size);
        let (image, first_row) = (idx / bands_per_image, idx % bands_per_image * self.band_size);
        Band {
            x_offset: image * g.ih * g.iw * g.ic,
            out_offset: (image * oh + first_row) * ow * g.oc,
            ih: g.ih,
            iw: g.iw,
            first_row,
            n_rows: self.band_size.min(oh.saturating_sub(first_row)),
            ow,
        }
    }
}

impl Band {
    /// The outputs, in elements.
    fn outputs(&self, oc: usize) -> std::ops::Range<usize> {
        self.out_offset..self.out_offset + self.n_rows * self.ow * oc
    }

    /// The number and the width in pixels of the input rows that the band reads, padding included.
    pub(crate) fn padded_size(&self, g: &ConvGeometry) -> (usize, usize) {
        (
            (self.n_rows - 1) * g.stride_h + (g.kh - 1) * g.dilation_h + 1,
            (self.ow - 1) * g.stride_w + (g.kw - 1) * g.dilation_w + 1,
        )
    }

    /// Copies the input rows of the band, converted, into `to`: [`Band::padded_size`] pixels.
    pub(crate) fn copy_rows<In, X: Copy>(
        &self,
        g: &ConvGeometry,
        x: &[In],
        padding: X,
        to: &mut [X],
        convert: impl Fn(&[In], &mut [X]),
    ) {
        let (n_rows, width) = self.padded_size(g);
        let left = g.pad_left.min(width);
        let inside = self.iw.min(width - left);
        let rows = to.chunks_exact_mut((width * g.ic).max(1)).take(n_rows);
        for (r, row) in rows.enumerate() {
            let iy = (self.first_row * g.stride_h + r).checked_sub(g.pad_top);
            let Some(iy) = iy.filter(|&iy| iy < self.ih) else {
                row.fill(padding);
                continue;
            };
            let (before, rest) = row.split_at_mut(left * g.ic);
            let (inner, after) = rest.split_at_mut(inside * g.ic);
            before.fill(padding);
            convert(&x[iy * self.iw * g.ic..][..inside * g.ic], inner);
            after.fill(padding);
        }
    }
}

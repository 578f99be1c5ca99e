//! Float depthwise convolution: vectors of channels, several neighbouring pixels at once.
//!
//! Inside a row every loaded column feeds all outputs that use it; each output still takes its taps in order. Pixels
//! whose taps reach into the padding go one by one, with a pointer for each tap: a tap outside reads zeros.

use rayon::prelude::*;

use super::vector::{Avx2, Avx512, F32Vector};
use crate::buffer::Aligned;
use crate::dense::equal_tiles;
use crate::unroll::unroll;
use crate::{ConvGeometry, Isa, parallel};

/// Pixels of the largest tile.
const MAX_PIXELS: usize = 8;
/// Columns that the largest tile reads: 8 pixels, stride 2, kernel width 7.
const MAX_COLUMNS: usize = (MAX_PIXELS - 1) * 2 + 7;

/// Packed depthwise weights.
#[derive(Clone, Debug)]
pub(crate) struct Depthwise {
    kernels: &'static Kernels,
    channels: usize,
    /// `[tap][channels, rounded up]`.
    weight: Aligned<f32>,
    tap_stride: usize,
    bias: Aligned<f32>,
    /// What a tap in the padding reads.
    zeros: Aligned<f32>,
}

/// What one call computes: neighbouring pixels of one row, all channels.
#[derive(Clone, Copy)]
struct Call<'a> {
    /// One pointer for each kernel row (interior) or tap (border), at the first pixel.
    x: &'a [*const f32],
    pixel_stride: usize,
    weight: *const f32,
    tap_stride: usize,
    bias: *const f32,
    out: *mut f32,
    channels: usize,
    clamp: (f32, f32),
}

type Kernel = unsafe fn(&Call<'_>);

/// Kernels of fixed kernel width and stride, by number of pixels.
type ByPixels = [Kernel; MAX_PIXELS];

#[derive(Debug)]
struct Kernels {
    /// `(kernel width, stride, kernels)`.
    interior: &'static [(usize, usize, ByPixels)],
    border: Kernel,
}

impl Depthwise {
    /// Packs weights `[channels, 1, taps]`; `None` for an instruction set without kernels.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], taps: usize) -> Option<Self> {
        let kernels = match isa {
            Isa::Scalar => return None,
            Isa::Avx2 => &AVX2,
            Isa::Avx512 | Isa::Vnni => &AVX512,
        };
        let channels = bias.len();
        let tap_stride = channels.next_multiple_of(Avx512::LANES);
        let mut packed = Aligned::zeroed(taps * tap_stride);
        for (channel, weights) in weight.chunks_exact(taps).enumerate() {
            for (tap, &w) in weights.iter().enumerate() {
                packed.as_mut_slice()[tap * tap_stride + channel] = w;
            }
        }
        let mut packed_bias = Aligned::zeroed(tap_stride);
        packed_bias.as_mut_slice()[..channels].copy_from_slice(bias);
        Some(Self {
            kernels,
            channels,
            weight: packed,
            tap_stride,
            bias: packed_bias,
            zeros: Aligned::zeroed(MAX_COLUMNS * channels),
        })
    }

    pub(crate) fn conv(&self, x: &[f32], g: &ConvGeometry, clamp: (f32, f32), out: &mut [f32]) {
        let (oh, ow) = (g.oh(), g.ow());
        if out.is_empty() {
            return;
        }
        let row = |(i, out): (usize, &mut [f32])| {
            let image = &x[i / oh * g.ih * g.iw * g.ic..][..g.ih * g.iw * g.ic];
            self.row(image, g, i % oh, clamp, out);
        };
        if parallel::runs_here(out.len()) {
            out.chunks_exact_mut(ow * g.oc).enumerate().for_each(row);
        } else {
            let rows = oh.div_ceil(2 * rayon::current_num_threads());
            out.par_chunks_mut(rows * ow * g.oc)
                .enumerate()
                .for_each(|(band, out)| {
                    let first = band * rows;
                    let band = out.chunks_exact_mut(ow * g.oc).enumerate();
                    band.for_each(|(i, out)| row((first + i, out)));
                });
        }
    }

    fn row(&self, image: &[f32], g: &ConvGeometry, oy: usize, clamp: (f32, f32), out: &mut [f32]) {
        let line = |kh: usize| {
            let iy = (oy * g.stride_h + kh * g.dilation_h).checked_sub(g.pad_top)?;
            (iy < g.ih).then(|| image[iy * g.iw * g.ic..].as_ptr())
        };
        let zeros = self.zeros.as_slice().as_ptr();
        let common = Call {
            x: &[],
            pixel_stride: g.ic,
            weight: self.weight.as_slice().as_ptr(),
            tap_stride: self.tap_stride,
            bias: self.bias.as_slice().as_ptr(),
            out: out.as_mut_ptr(),
            channels: self.channels,
            clamp,
        };
        let out_of = |ox: usize| common.out.wrapping_add(ox * g.oc);
        let mut pointers = Vec::with_capacity(g.kh * g.kw);
        let kernels = self.kernels.interior.iter();
        let mut fitting = kernels.filter(|k| g.dilation_w == 1 && k.0 == g.kw && k.1 == g.stride_w);
        let (first, end) = match fitting.next() {
            None => (0, 0),
            Some((_, _, by_pixels)) => {
                let (first, end) = inside(g);
                for (tile, n_pixels) in equal_tiles(end - first, MAX_PIXELS) {
                    let ox = first + tile;
                    let x = (ox * g.stride_w).wrapping_sub(g.pad_left) * g.ic;
                    let rows = (0..g.kh).map(|kh| line(kh).map_or(zeros, |line| line.wrapping_add(x)));
                    pointers.clear();
                    pointers.extend(rows);
                    let call = Call {
                        x: &pointers,
                        out: out_of(ox),
                        ..common
                    };
                    // SAFETY: all columns of the tile are inside the image, or in the zeros; `out` has the pixels.
                    unsafe { by_pixels[n_pixels - 1](&call) }
                }
                (first, end)
            }
        };
        for ox in (0..first).chain(end..g.ow()) {
            let taps = (0..g.kh * g.kw).map(|tap| {
                let ix = (ox * g.stride_w + tap % g.kw * g.dilation_w).checked_sub(g.pad_left);
                let ix = ix.filter(|&ix| ix < g.iw);
                line(tap / g.kw)
                    .zip(ix)
                    .map_or(zeros, |(line, ix)| line.wrapping_add(ix * g.ic))
            });
            pointers.clear();
            pointers.extend(taps);
            let call = Call {
                x: &pointers,
                out: out_of(ox),
                ..common
            };
            // SAFETY: every tap is a pixel of the image, or in the zeros; `out` has the pixel.
            unsafe { (self.kernels.border)(&call) }
        }
    }
}

/// The output columns whose taps are all inside the image.
fn inside(g: &ConvGeometry) -> (usize, usize) {
    let first = g.pad_left.div_ceil(g.stride_w).min(g.ow());
    let end = match (g.iw + g.pad_left).checked_sub(g.kw) {
        Some(last) => (last / g.stride_w + 1).min(g.ow()),
        None => 0,
    };
    (first, end.max(first))
}

#[inline(always)]
unsafe fn interior<V: F32Vector, const KW: usize, const STRIDE: usize, const M: usize>(c: &Call<'_>) {
    // SAFETY: the caller's: rows, weights and outputs are valid for M pixels.
    unsafe {
        let (min, max) = (V::splat(c.clamp.0), V::splat(c.clamp.1));
        let mut at = 0;
        while at < c.channels {
            let lanes = V::LANES.min(c.channels - at);
            let full = lanes == V::LANES;
            let mut acc = [V::load(c.bias.add(at)); M];
            for (kh, x) in c.x.iter().enumerate() {
                let x = x.add(at);
                let weight = c.weight.add(kh * KW * c.tap_stride + at);
                let mut w = [V::splat(0.0); KW];
                unroll!(8, I < KW, {
                    w[I] = V::load(weight.add(I * c.tap_stride));
                });
                unroll!(24, COLUMN < (M - 1) * STRIDE + KW, {
                    let from = x.add(COLUMN * c.pixel_stride);
                    let v = if full {
                        V::load(from)
                    } else {
                        V::load_first(from, lanes)
                    };
                    unroll!(8, I < M, {
                        if COLUMN.wrapping_sub(I * STRIDE) < KW {
                            acc[I] = v.mul_add(w[(COLUMN - I * STRIDE) % KW], acc[I]);
                        }
                    });
                });
            }
            unroll!(8, I < M, {
                let out = c.out.add(I * c.pixel_stride + at);
                let value = acc[I].clip(min, max);
                if full {
                    value.store(out)
                } else {
                    value.store_first(out, lanes)
                }
            });
            at += V::LANES;
        }
    }
}

#[inline(always)]
unsafe fn border<V: F32Vector>(c: &Call<'_>) {
    // SAFETY: the caller's: taps, weights and outputs are valid for one pixel.
    unsafe {
        let (min, max) = (V::splat(c.clamp.0), V::splat(c.clamp.1));
        let mut at = 0;
        while at < c.channels {
            let lanes = V::LANES.min(c.channels - at);
            let full = lanes == V::LANES;
            let mut acc = V::load(c.bias.add(at));
            for (tap, x) in c.x.iter().enumerate() {
                let from = x.add(at);
                let v = if full {
                    V::load(from)
                } else {
                    V::load_first(from, lanes)
                };
                acc = v.mul_add(V::load(c.weight.add(tap * c.tap_stride + at)), acc);
            }
            let value = acc.clip(min, max);
            let out = c.out.add(at);
            if full {
                value.store(out)
            } else {
                value.store_first(out, lanes)
            }
            at += V::LANES;
        }
    }
}

macro_rules! kernels {
    ($name:ident, $vector:ty, $features:literal) => {
        static $name: Kernels = {
            #[target_feature(enable = $features)]
            unsafe fn row<const KW: usize, const STRIDE: usize, const M: usize>(c: &Call<'_>) {
                // SAFETY: the caller's.
                unsafe { interior::<$vector, KW, STRIDE, M>(c) }
            }
            #[target_feature(enable = $features)]
            unsafe fn pixel(c: &Call<'_>) {
                // SAFETY: the caller's.
                unsafe { border::<$vector>(c) }
            }
            const fn by_pixels<const KW: usize, const STRIDE: usize>() -> ByPixels {
                [
                    row::<KW, STRIDE, 1>,
                    row::<KW, STRIDE, 2>,
                    row::<KW, STRIDE, 3>,
                    row::<KW, STRIDE, 4>,
                    row::<KW, STRIDE, 5>,
                    row::<KW, STRIDE, 6>,
                    row::<KW, STRIDE, 7>,
                    row::<KW, STRIDE, 8>,
                ]
            }
            Kernels {
                interior: &[
                    (3, 1, by_pixels::<3, 1>()),
                    (3, 2, by_pixels::<3, 2>()),
                    (5, 1, by_pixels::<5, 1>()),
                    (5, 2, by_pixels::<5, 2>()),
                    (7, 1, by_pixels::<7, 1>()),
                    (7, 2, by_pixels::<7, 2>()),
                ],
                border: pixel,
            }
        };
    };
}

kernels!(AVX512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,fma");
kernels!(AVX2, Avx2, "avx2,fma");

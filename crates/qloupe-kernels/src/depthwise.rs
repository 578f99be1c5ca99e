//! Depthwise convolution: vectors of channels, several neighbouring pixels at once, for float and integers.
//!
//! Inside a row every loaded column feeds all outputs that use it; each output still takes its taps in order. Pixels
//! whose taps reach into the padding go one by one, with a pointer for each tap: a tap outside reads the padding.

use rayon::prelude::*;

use crate::bands::After;
use crate::buffer::{Aligned, Plain};
use crate::dense::equal_tiles;
use crate::unroll::unroll;
use crate::{ConvGeometry, parallel};

/// Pixels of the largest tile.
const MAX_PIXELS: usize = 8;
/// Columns that the largest tile reads: 8 pixels, stride 2, kernel width 7.
const MAX_COLUMNS: usize = (MAX_PIXELS - 1) * 2 + 7;
/// Bytes of the input rows under the kernel that are read before the next channels: a part of the L1 cache.
const RESIDENT_BYTES: usize = 24 * 1024;
/// Vectors of channels that are read together at least, so that memory is read in long runs.
const MIN_VECTORS: usize = 16;
/// Output rows that are computed before the next channels.
const ROWS_AT_ONCE: usize = 8;
/// Channels are padded to whole vectors of this size.
const CHANNEL_STEP: usize = 16;

/// Vector arithmetic of a depthwise convolution.
///
/// # Safety
/// Every method needs the instruction set of the implementation, and pointers valid for the lanes that it names.
pub(crate) trait Arithmetic: 'static {
    /// Channels of a vector; a divisor of [`CHANNEL_STEP`].
    const LANES: usize;
    /// Stored activations.
    type In: Plain;
    /// Packed weights and biases.
    type Weight: Plain;
    /// A vector.
    type Value: Copy;
    /// What all pixels share, and where the outputs are.
    type Context: Copy + Sync;
    /// Loads `lanes` activations.
    unsafe fn load(context: &Self::Context, from: *const Self::In, lanes: usize) -> Self::Value;
    /// Loads a vector of weights or biases.
    unsafe fn weight(from: *const Self::Weight) -> Self::Value;
    /// `x * weight + sum`.
    unsafe fn mul_add(x: Self::Value, weight: Self::Value, sum: Self::Value) -> Self::Value;
    /// Writes `lanes` outputs from element `to` on; the first is of `channel`.
    unsafe fn finish(sum: Self::Value, context: &Self::Context, channel: usize, to: usize, lanes: usize);
}

/// Packed depthwise weights.
#[derive(Clone, Debug)]
pub(crate) struct Depthwise<W> {
    channels: usize,
    /// `[tap][channels, rounded up]`.
    weight: Aligned<W>,
}

/// What one call computes: neighbouring pixels of one row, all channels.
pub(crate) struct Call<'a, A: Arithmetic> {
    /// One pointer for each kernel row (interior) or tap (border), at the first pixel.
    x: &'a [*const A::In],
    pixel_stride: usize,
    weight: *const A::Weight,
    tap_stride: usize,
    bias: *const A::Weight,
    /// The first output element.
    out: usize,
    /// The first channel and the end.
    channels: (usize, usize),
    context: A::Context,
}

/// A kernel of one instruction set.
///
/// # Safety
/// The pointers are valid for the pixels of the kernel, and the machine has the instruction set.
pub(crate) type Kernel<A> = unsafe fn(&Call<'_, A>);

/// The kernels of an instruction set.
pub(crate) struct Kernels<A: Arithmetic> {
    /// `(kernel width, stride, kernels by number of pixels)`.
    pub(crate) interior: &'static [(usize, usize, [Kernel<A>; MAX_PIXELS])],
    pub(crate) border: Kernel<A>,
}

/// Rounds a number of channels up to whole vectors.
pub(crate) fn padded_channels(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_STEP)
}

impl<W: Plain> Depthwise<W> {
    /// Packs weights `[channels, 1, taps]`.
    pub(crate) fn new<T: Copy>(weight: &[T], channels: usize, taps: usize, convert: impl Fn(T) -> W) -> Self {
        let tap_stride = padded_channels(channels);
        let mut packed = Aligned::zeroed(taps * tap_stride);
        for (channel, weights) in weight.chunks_exact(taps).enumerate() {
            for (tap, &w) in weights.iter().enumerate() {
                packed.as_mut_slice()[tap * tap_stride + channel] = convert(w);
            }
        }
        Self {
            channels,
            weight: packed,
        }
    }

    /// Convolves `x` with biases `[channels, rounded up]`; taps in the padding read `padding`. `after` is called once for
    /// every part of the outputs, when it is written.
    ///
    /// # Safety
    /// `kernels` are of an available instruction set; the outputs of the context are those of the geometry, and nobody
    /// else writes them.
    #[expect(clippy::too_many_arguments, reason = "the operands of a convolution")]
    pub(crate) unsafe fn conv<A: Arithmetic<Weight = W>>(
        &self,
        kernels: &Kernels<A>,
        x: &[A::In],
        g: &ConvGeometry,
        bias: &[W],
        padding: A::In,
        context: A::Context,
        after: &After<'_>,
    ) {
        let n_rows = g.n * g.oh();
        let mut outside = Aligned::zeroed(MAX_COLUMNS * self.channels);
        outside.as_mut_slice().fill(padding);
        let outside = outside.as_slice();
        let band = |rows: std::ops::Range<usize>| {
            let line_bytes = g.kh * g.iw * A::LANES * size_of::<A::In>();
            let chunk = A::LANES * (RESIDENT_BYTES / line_bytes.max(1)).max(MIN_VECTORS);
            for first in rows.clone().step_by(ROWS_AT_ONCE) {
                for channel in (0..self.channels).step_by(chunk) {
                    let channels = (channel, (channel + chunk).min(self.channels));
                    for row in first..(first + ROWS_AT_ONCE).min(rows.end) {
                        // SAFETY: the caller's promise; every row is run once for every channel.
                        unsafe { self.row(kernels, x, g, (row, channels), bias, outside, context) }
                    }
                }
                let end = (first + ROWS_AT_ONCE).min(rows.end);
                after(first * g.ow() * g.oc..end * g.ow() * g.oc);
            }
        };
        if parallel::runs_here(g.n_outputs()) {
            band(0..n_rows);
        } else {
            let n_bands = (4 * rayon::current_num_threads()).min(n_rows);
            let bands = (0..n_bands).into_par_iter();
            bands.for_each(|i| band(n_rows * i / n_bands..n_rows * (i + 1) / n_bands));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of a convolution")]
    unsafe fn row<A: Arithmetic<Weight = W>>(
        &self,
        kernels: &Kernels<A>,
        x: &[A::In],
        g: &ConvGeometry,
        (row, channels): (usize, (usize, usize)),
        bias: &[W],
        outside: &[A::In],
        context: A::Context,
    ) {
        let (oh, ow) = (g.oh(), g.ow());
        let image = &x[row / oh * g.ih * g.iw * g.ic..][..g.ih * g.iw * g.ic];
        let line = |kh: usize| {
            let iy = (row % oh * g.stride_h + kh * g.dilation_h).checked_sub(g.pad_top)?;
            (iy < g.ih).then(|| image[iy * g.iw * g.ic..].as_ptr())
        };
        let outside = outside.as_ptr();
        let call = |x: &[*const A::In], ox: usize, kernel: Kernel<A>| {
            let call = Call::<A> {
                // SAFETY: the call does not outlive the pointers.
                x: unsafe { std::slice::from_raw_parts(x.as_ptr(), x.len()) },
                pixel_stride: g.ic,
                weight: self.weight.as_slice().as_ptr(),
                tap_stride: padded_channels(self.channels),
                bias: bias.as_ptr(),
                out: (row * ow + ox) * g.oc,
                channels,
                context,
            };
            // SAFETY: every pointer is to pixels of the image, or to the padding; the outputs are the caller's promise.
            unsafe { kernel(&call) }
        };
        let mut pointers = Vec::with_capacity(g.kh * g.kw);
        let mut fitting = kernels
            .interior
            .iter()
            .filter(|k| g.dilation_w == 1 && k.0 == g.kw && k.1 == g.stride_w);
        let (first, end) = match fitting.next() {
            None => (0, 0),
            Some((_, _, by_pixels)) => {
                let (first, end) = inside(g);
                for (tile, n_pixels) in equal_tiles(end - first, MAX_PIXELS) {
                    let ox = first + tile;
                    let column = (ox * g.stride_w - g.pad_left) * g.ic;
                    pointers.clear();
                    pointers.extend(
                        (0..g.kh).map(|kh| line(kh).map_or(outside, |line| line.wrapping_add(column))),
                    );
                    call(&pointers, ox, by_pixels[n_pixels - 1]);
                }
                (first, end)
            }
        };
        for ox in (0..first).chain(end..ow) {
            pointers.clear();
            for kh in 0..g.kh {
                let line = line(kh);
                pointers.extend((0..g.kw).map(|kw| {
                    let ix = (ox * g.stride_w + kw * g.dilation_w).checked_sub(g.pad_left);
                    let pixel = line.zip(ix.filter(|&ix| ix < g.iw));
                    pixel.map_or(outside, |(line, ix)| line.wrapping_add(ix * g.ic))
                }));
            }
            call(&pointers, ox, kernels.border);
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

/// Calls `$body` for every vector of channels, with its number of lanes: a constant for all but the last.
macro_rules! for_each_vector {
    ($arithmetic:ident, $channels:expr, |$at:ident, $lanes:ident| $body:block) => {{
        let (mut $at, end) = $channels;
        while $at + $arithmetic::LANES <= end {
            let $lanes = $arithmetic::LANES;
            $body
            $at += $arithmetic::LANES;
        }
        if $at < end {
            let $lanes = end - $at;
            $body
        }
    }};
}

/// A row of M pixels whose columns are all inside.
///
/// # Safety
/// Rows, weights and outputs are valid for M pixels; called inside a function of the instruction set of `A`.
#[inline(always)]
pub(crate) unsafe fn interior<A: Arithmetic, const KW: usize, const STRIDE: usize, const M: usize>(
    c: &Call<'_, A>,
) {
    let context = c.context;
    // SAFETY: the contract above.
    unsafe {
        for_each_vector!(A, c.channels, |at, lanes| {
            let mut acc = [A::weight(c.bias.add(at)); M];
            for (kh, x) in c.x.iter().enumerate() {
                let x = x.add(at);
                let weight = c.weight.add(kh * KW * c.tap_stride + at);
                let mut w = [acc[0]; KW];
                unroll!(8, I < KW, {
                    w[I] = A::weight(weight.add(I * c.tap_stride));
                });
                unroll!(24, COLUMN < (M - 1) * STRIDE + KW, {
                    let v = A::load(&context, x.add(COLUMN * c.pixel_stride), lanes);
                    unroll!(8, I < M, {
                        if COLUMN.wrapping_sub(I * STRIDE) < KW {
                            acc[I] = A::mul_add(v, w[(COLUMN - I * STRIDE) % KW], acc[I]);
                        }
                    });
                });
            }
            let out = c.out + at;
            unroll!(8, I < M, {
                A::finish(acc[I], &context, at, out + I * c.pixel_stride, lanes);
            });
        });
    }
}

/// One pixel, with a pointer for each tap.
///
/// # Safety
/// Taps, weights and outputs are valid; called inside a function of the instruction set of `A`.
#[inline(always)]
pub(crate) unsafe fn border<A: Arithmetic>(c: &Call<'_, A>) {
    let context = c.context;
    // SAFETY: the contract above.
    unsafe {
        for_each_vector!(A, c.channels, |at, lanes| {
            let mut acc = A::weight(c.bias.add(at));
            for (tap, x) in c.x.iter().enumerate() {
                let v = A::load(&context, x.add(at), lanes);
                acc = A::mul_add(v, A::weight(c.weight.add(tap * c.tap_stride + at)), acc);
            }
            A::finish(acc, &context, at, c.out + at, lanes);
        });
    }
}

/// Defines `static NAME: Kernels<A>` compiled for target features.
macro_rules! depthwise_kernels {
    ($(#[$meta:meta])* $name:ident, $arithmetic:ty, $features:literal) => {
        $(#[$meta])*
        pub(crate) static $name: $crate::depthwise::Kernels<$arithmetic> = {
            use $crate::depthwise::{Call, Kernel, Kernels, border, interior};
            #[target_feature(enable = $features)]
            unsafe fn row<const KW: usize, const STRIDE: usize, const M: usize>(c: &Call<'_, $arithmetic>) {
                // SAFETY: the caller's.
                unsafe { interior::<$arithmetic, KW, STRIDE, M>(c) }
            }
            #[target_feature(enable = $features)]
            unsafe fn pixel(c: &Call<'_, $arithmetic>) {
                // SAFETY: the caller's.
                unsafe { border::<$arithmetic>(c) }
            }
            const fn by_pixels<const KW: usize, const STRIDE: usize>() -> [Kernel<$arithmetic>; 8] {
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
                ],
                border: pixel,
            }
        };
    };
}
pub(crate) use depthwise_kernels;

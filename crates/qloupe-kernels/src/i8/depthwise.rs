//! Integer arithmetic of depthwise convolutions: bytes widened to 32 bits, 16-bit products.

use std::borrow::Cow;
use std::marker::PhantomData;

use super::folded_bias::{FoldedBias, padded};
use super::vector::{Avx2, I32Vector, Output, Vnni, finish};
use crate::buffer::Aligned;
use crate::depthwise::{Arithmetic, Depthwise, depthwise_kernels, padded_channels};
use crate::{ConvGeometry, Isa, QuantizedSlice};

/// Integer lanes of `V`.
pub(crate) struct Integer<V>(PhantomData<V>);

/// How bytes are read and accumulators are written.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    /// Turns s8 into u8 shifted by 128.
    flip: u8,
    output: Output,
}

impl<V: I32Vector> Arithmetic for Integer<V> {
    const LANES: usize = V::LANES;
    type In = u8;
    type Weight = i32;
    type Value = V;
    type Context = Context;

    #[inline(always)]
    unsafe fn load(context: &Context, from: *const u8, lanes: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_bytes(from, context.flip, lanes) }
    }

    #[inline(always)]
    unsafe fn weight(from: *const i32) -> V {
        // SAFETY: the caller's; weights are padded to whole vectors.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn mul_add(x: V, weight: V, sum: V) -> V {
        // SAFETY: the caller's.
        unsafe { sum.mul_add(x, weight) }
    }

    #[inline(always)]
    unsafe fn finish(sum: V, context: &Context, channel: usize, to: usize, lanes: usize) {
        // SAFETY: the caller's.
        unsafe { finish(sum, &context.output, channel, to, lanes) }
    }
}

depthwise_kernels!(
    VNNI,
    Integer<Vnni>,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
depthwise_kernels!(AVX2, Integer<Avx2>, "avx2,fma");

/// An integer depthwise convolution.
#[derive(Clone, Debug)]
pub(crate) struct DepthwiseI8 {
    isa: Isa,
    weight: Depthwise<i32>,
    bias: FoldedBias,
    channels: usize,
}

impl DepthwiseI8 {
    /// Packs weights `[channels, 1, taps]` of at most 16 bits; `None` for an instruction set without kernels.
    pub(crate) fn new<W: Copy + Into<i32>>(
        isa: Isa,
        weight: &[W],
        bias: &[i32],
        taps: usize,
    ) -> Option<Self> {
        if isa == Isa::Scalar {
            return None;
        }
        let sum = |weights: &[W]| weights.iter().map(|&w| w.into()).sum();
        let mut padded_bias = Aligned::zeroed(padded_channels(bias.len()));
        padded_bias.as_mut_slice()[..bias.len()].copy_from_slice(bias);
        Some(Self {
            isa,
            // 16 bits in a lane of 32 whose upper half is 0.
            weight: Depthwise::new(weight, bias.len(), taps, |w| w.into() & 0xffff),
            bias: FoldedBias::new(padded_bias, weight.chunks_exact(taps).map(sum).collect()),
            channels: bias.len(),
        })
    }

    /// Multipliers of the channels as [`DepthwiseI8::conv`] reads them.
    pub(crate) fn padded<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        padded(values, self.channels, 1, padded_channels(self.channels))
    }

    /// Convolves into `output`, whose multipliers are [`DepthwiseI8::padded`].
    pub(crate) fn conv(&self, x: QuantizedSlice<'_>, g: &ConvGeometry, x_zero_point: i32, output: Output) {
        let (bytes, flip): (&[u8], u8) = match x {
            QuantizedSlice::U8(x) => (x, 0),
            // SAFETY: i8 and u8 have the same size, and any bits are a value of both.
            QuantizedSlice::I8(x) => (
                unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) },
                0x80,
            ),
        };
        let folded = x_zero_point + i32::from(flip);
        let padding = x_zero_point as u8;
        let bias = self.bias.of(folded);
        let context = Context { flip, output };
        // SAFETY: the output has the elements of the geometry; the instruction set was required to be available.
        unsafe {
            match self.isa {
                Isa::Vnni | Isa::Amx => self
                    .weight
                    .conv(&VNNI, bytes, g, &bias, padding, context, &|_| ()),
                _ => self
                    .weight
                    .conv(&AVX2, bytes, g, &bias, padding, context, &|_| ()),
            }
        }
    }
}

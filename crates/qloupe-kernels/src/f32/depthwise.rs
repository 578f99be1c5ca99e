//! Float arithmetic of depthwise convolutions.

use std::marker::PhantomData;

use super::vector::{Avx2, Avx512, F32Vector};
use crate::bands::After;
use crate::buffer::Aligned;
use crate::depthwise::{Arithmetic, Depthwise, depthwise_kernels, padded_channels};
use crate::{ConvGeometry, Isa};

/// Float lanes of `V`.
pub(crate) struct Float<V>(PhantomData<V>);

/// The clip of the outputs, and where they are.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    clamp: (f32, f32),
    out: *mut f32,
}

// SAFETY: threads write disjoint outputs, as `Depthwise::conv` demands.
unsafe impl Sync for Context {}

impl<V: F32Vector + 'static> Arithmetic for Float<V> {
    const LANES: usize = V::LANES;
    type In = f32;
    type Weight = f32;
    type Value = V;
    type Context = Context;

    #[inline(always)]
    unsafe fn load(_: &Context, from: *const f32, lanes: usize) -> V {
        // SAFETY: the caller's.
        unsafe {
            if lanes == V::LANES {
                V::load(from)
            } else {
                V::load_first(from, lanes)
            }
        }
    }

    #[inline(always)]
    unsafe fn weight(from: *const f32) -> V {
        // SAFETY: the caller's; weights are padded to whole vectors.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn mul_add(x: V, weight: V, sum: V) -> V {
        // SAFETY: the caller's.
        unsafe { x.mul_add(weight, sum) }
    }

    #[inline(always)]
    unsafe fn finish(sum: V, context: &Context, _: usize, to: usize, lanes: usize) {
        // SAFETY: the caller's.
        unsafe {
            let value = sum.clip(V::splat(context.clamp.0), V::splat(context.clamp.1));
            let out = context.out.add(to);
            if lanes == V::LANES {
                value.store(out)
            } else {
                value.store_first(out, lanes)
            }
        }
    }
}

depthwise_kernels!(AVX512, Float<Avx512>, "avx512f,avx512bw,avx512dq,avx512vl,fma");
depthwise_kernels!(AVX2, Float<Avx2>, "avx2,fma");

/// A float depthwise convolution.
#[derive(Clone, Debug)]
pub(crate) struct DepthwiseF32 {
    isa: Isa,
    weight: Depthwise<f32>,
    bias: Aligned<f32>,
}

impl DepthwiseF32 {
    /// Packs weights `[channels, 1, taps]`; `None` for an instruction set without kernels.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], taps: usize) -> Option<Self> {
        if isa == Isa::Scalar {
            return None;
        }
        let mut padded_bias = Aligned::zeroed(padded_channels(bias.len()));
        padded_bias.as_mut_slice()[..bias.len()].copy_from_slice(bias);
        Some(Self {
            isa,
            weight: Depthwise::new(weight, bias.len(), taps, |w| w),
            bias: padded_bias,
        })
    }

    /// Convolves into `out`; `after` is called for every part of the outputs once it is written.
    ///
    /// # Safety
    /// `out` has room for the outputs of the geometry, and nobody else uses it.
    pub(crate) unsafe fn conv(
        &self,
        x: &[f32],
        g: &ConvGeometry,
        clamp: (f32, f32),
        out: *mut f32,
        after: &After<'_>,
    ) {
        let context = Context { clamp, out };
        let bias = self.bias.as_slice();
        // SAFETY: the caller's; the instruction set was required to be available.
        unsafe {
            match self.isa {
                Isa::Scalar | Isa::Avx2 => self.weight.conv(&AVX2, x, g, bias, 0.0, context, after),
                _ => self.weight.conv(&AVX512, x, g, bias, 0.0, context, after),
            }
        }
    }
}

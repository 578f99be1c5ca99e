//! The inner kernel of every dense integer product: a tile of MR pixels by NV vectors of output channels.
//!
//! Weights are packed as `[vector of output channels][k step][lanes]`, each lane the weights of one step of K;
//! activations are broadcast 32 bits at a time. A step may read past the end of K, where the weights are 0.

use super::vector::{Avx2, I32Vector, Output, Vnni};
use crate::dense::Segment;
use crate::unroll::unroll;

/// What one call computes.
#[derive(Debug)]
pub(crate) struct Tile<'a, X> {
    pub(crate) segments: &'a [Segment<X>],
    /// Added to the address of every segment.
    pub(crate) x_offset: usize,
    /// Steps of K in every segment.
    pub(crate) n_steps: usize,
    /// From a pixel to the next.
    pub(crate) pixel_stride: usize,
    /// The weights of the first vector.
    pub(crate) weight: *const i32,
    /// From a vector to the next.
    pub(crate) vector_stride: usize,
    /// Biases, zero point folded in.
    pub(crate) bias: *const i32,
    pub(crate) output: Output,
    /// The first output element, and from an output pixel to the next.
    pub(crate) out_offset: usize,
    pub(crate) out_stride: usize,
    /// The first channel, counted in padded vectors.
    pub(crate) padded_channel: usize,
    /// Lanes of the last vector that exist.
    pub(crate) last_lanes: usize,
}

/// A kernel of fixed tile size.
///
/// # Safety
/// The pointers are valid for the tile, and the machine has the instruction set.
pub(crate) type TileKernel<X> = unsafe fn(&Tile<'_, X>);

/// The tile kernels of an instruction set: `kernels[NV - 1][MR - 1]`.
pub(crate) type Tiles<X> = &'static [&'static [TileKernel<X>]];

#[inline(always)]
unsafe fn tile<V: I32Vector, const MR: usize, const NV: usize>(t: &Tile<'_, V::X>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe {
        let mut acc = [[V::splat(0); NV]; MR];
        unroll!(4, N < NV, {
            let bias = V::load(t.bias.add(N * V::LANES));
            unroll!(24, M < MR, {
                acc[M][N] = bias;
            });
        });
        let stride = t.pixel_stride;
        for segment in t.segments {
            // One base for every five pixels: the others are reached by scaled addressing.
            let mut x = [segment.x; 6];
            unroll!(6, B < 6, {
                if B * 5 < MR {
                    x[B] = segment.x.add(t.x_offset + B * 5 * stride);
                }
            });
            let mut weight = t.weight.add(segment.k * V::LANES);
            macro_rules! step {
                ($k:literal) => {{
                    let mut w = [V::splat(0); NV];
                    unroll!(4, N < NV, {
                        w[N] = V::load(weight.add(N * t.vector_stride + $k * V::LANES));
                    });
                    unroll!(24, M < MR, {
                        let a = x[M / 5].add(M % 5 * stride + $k * V::K_STEP).cast::<i32>();
                        let a = V::splat(a.read_unaligned());
                        unroll!(4, N < NV, {
                            acc[M][N] = acc[M][N].dot(a, w[N]);
                        });
                    });
                }};
            }
            let mut left = t.n_steps;
            // Larger tiles need every register for one step.
            while MR * NV <= 12 && left >= 2 {
                step!(0);
                step!(1);
                weight = weight.add(2 * V::LANES);
                unroll!(6, B < 6, {
                    x[B] = x[B].wrapping_add(2 * V::K_STEP);
                });
                left -= 2;
            }
            while left > 0 {
                step!(0);
                weight = weight.add(V::LANES);
                unroll!(6, B < 6, {
                    x[B] = x[B].wrapping_add(V::K_STEP);
                });
                left -= 1;
            }
        }
        // A copy: the writes of bytes could otherwise change it, for all that the compiler knows.
        let output = t.output;
        let (last_lanes, out_stride) = (t.last_lanes, t.out_stride);
        unroll!(4, N < NV, {
            let lanes = if N + 1 == NV { last_lanes } else { V::LANES };
            let to = t.out_offset + N * V::LANES;
            match output {
                Output::Accumulators(out) => {
                    unroll!(24, M < MR, {
                        acc[M][N].store_first(out.add(to + M * out_stride), lanes);
                    });
                }
                Output::Quantized(out, scale) => {
                    let clip = V::clip(&scale);
                    let multiplier = V::load_floats(scale.multiplier.add(t.padded_channel + N * V::LANES));
                    unroll!(24, M < MR, {
                        acc[M][N].requantize(multiplier, &clip, out.add(to + M * out_stride), lanes);
                    });
                }
            }
        });
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn vnni<const MR: usize, const NV: usize>(t: &Tile<'_, u8>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe { tile::<Vnni, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize>(t: &Tile<'_, i16>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe { tile::<Avx2, MR, NV>(t) }
}

macro_rules! kernels {
    ($kernel:ident, $nv:literal: $($mr:literal)*) => { &[$($kernel::<$mr, $nv>),*] };
}

/// 512-bit tiles: up to 28 of 32 registers accumulate.
pub(crate) static VNNI: Tiles<u8> = &[
    kernels!(vnni, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24),
    kernels!(vnni, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    kernels!(vnni, 3: 1 2 3 4 5 6 7 8 9),
    kernels!(vnni, 4: 1 2 3 4 5 6 7),
];

/// 256-bit tiles: up to 12 of 16 registers accumulate.
pub(crate) static AVX2: Tiles<i16> = &[
    kernels!(avx2, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
    kernels!(avx2, 2: 1 2 3 4 5 6),
];

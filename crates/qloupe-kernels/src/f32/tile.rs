//! The inner kernel of every dense float product: a tile of MR pixels by NV vectors of output channels.
//!
//! Weights are packed as `[vector of output channels][k][lanes]`; activations are read as segments of K that are
//! contiguous in memory, and broadcast. Every accumulator is one chain of multiply-adds in the order of K.

use super::vector::{Avx2, Avx512, F32Vector};
use crate::dense::Segment;
use crate::unroll::unroll;

/// What one call computes.
#[derive(Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) segments: &'a [Segment<f32>],
    /// Added to the address of every segment.
    pub(crate) x_offset: usize,
    /// Elements of every segment.
    pub(crate) length: usize,
    /// From a pixel to the next.
    pub(crate) pixel_stride: usize,
    /// The weights of the first vector.
    pub(crate) weight: *const f32,
    /// From a vector to the next.
    pub(crate) vector_stride: usize,
    pub(crate) bias: *const f32,
    pub(crate) out: *mut f32,
    /// From an output pixel to the next.
    pub(crate) out_stride: usize,
    /// Lanes of the last vector that exist.
    pub(crate) last_lanes: usize,
    pub(crate) clamp: (f32, f32),
    /// Weights that are needed soon: a kernel that fetches brings half a line near for each step of K.
    pub(crate) soon: *const f32,
}

/// A kernel of fixed tile size.
///
/// # Safety
/// The pointers are valid for the tile, and the machine has the instruction set.
pub(crate) type TileKernel = unsafe fn(&Tile<'_>);

/// The tile kernels of an instruction set.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// `kernels[NV - 1][MR - 1]`.
    pub(crate) kernels: &'static [&'static [TileKernel]],
    /// The same for weights that come from far away, where there are any: they fetch those that are needed soon.
    pub(crate) fetching: &'static [&'static [TileKernel]],
}

/// Floats of a cache line.
const LINE: usize = 16;

#[inline(always)]
unsafe fn tile<V: F32Vector, const MR: usize, const NV: usize, const FETCHES: bool>(t: &Tile<'_>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; MR];
        unroll!(4, N < NV, {
            let bias = V::load(t.bias.add(N * V::LANES));
            unroll!(24, M < MR, {
                acc[M][N] = bias;
            });
        });
        let stride = t.pixel_stride;
        let mut soon = t.soon;
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
                    let mut w = [V::splat(0.0); NV];
                    unroll!(4, N < NV, {
                        w[N] = V::load(weight.add(N * t.vector_stride + $k * V::LANES));
                    });
                    unroll!(24, M < MR, {
                        let a = V::splat(*x[M / 5].add(M % 5 * stride + $k));
                        unroll!(4, N < NV, {
                            acc[M][N] = a.mul_add(w[N], acc[M][N]);
                        });
                    });
                }};
            }
            let mut left = t.length;
            while left >= 4 {
                step!(0);
                step!(1);
                step!(2);
                step!(3);
                if FETCHES {
                    V::prefetch(soon);
                    V::prefetch(soon.wrapping_add(LINE));
                    soon = soon.wrapping_add(2 * LINE);
                }
                weight = weight.add(4 * V::LANES);
                unroll!(6, B < 6, {
                    x[B] = x[B].wrapping_add(4);
                });
                left -= 4;
            }
            while left > 0 {
                step!(0);
                weight = weight.add(V::LANES);
                unroll!(6, B < 6, {
                    x[B] = x[B].wrapping_add(1);
                });
                left -= 1;
            }
        }
        let (min, max) = (V::splat(t.clamp.0), V::splat(t.clamp.1));
        unroll!(24, M < MR, {
            unroll!(4, N < NV, {
                let out = t.out.add(M * t.out_stride + N * V::LANES);
                let value = acc[M][N].clip(min, max);
                if N + 1 == NV && t.last_lanes < V::LANES {
                    value.store_first(out, t.last_lanes);
                } else {
                    value.store(out);
                }
            });
        });
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn avx512<const MR: usize, const NV: usize>(t: &Tile<'_>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe { tile::<Avx512, MR, NV, false>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn avx512_fetching<const MR: usize, const NV: usize>(t: &Tile<'_>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe { tile::<Avx512, MR, NV, true>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize>(t: &Tile<'_>) {
    // SAFETY: the contract of `TileKernel`.
    unsafe { tile::<Avx2, MR, NV, false>(t) }
}

macro_rules! kernels {
    ($kernel:ident, $nv:literal: $($mr:literal)*) => { &[$($kernel::<$mr, $nv>),*] };
}

/// 512-bit tiles: up to 28 of 32 registers accumulate.
pub(crate) static AVX512: Tiles = Tiles {
    lanes: Avx512::LANES,
    kernels: &[
        kernels!(avx512, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24),
        kernels!(avx512, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        kernels!(avx512, 3: 1 2 3 4 5 6 7 8 9),
        kernels!(avx512, 4: 1 2 3 4 5 6 7),
    ],
    fetching: &[
        &[],
        kernels!(avx512_fetching, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        &[],
        kernels!(avx512_fetching, 4: 1 2 3 4 5 6 7),
    ],
};

/// 256-bit tiles: up to 12 of 16 registers accumulate.
pub(crate) static AVX2: Tiles = Tiles {
    lanes: Avx2::LANES,
    kernels: &[
        kernels!(avx2, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
        kernels!(avx2, 2: 1 2 3 4 5 6),
        kernels!(avx2, 3: 1 2 3 4),
    ],
    fetching: &[],
};

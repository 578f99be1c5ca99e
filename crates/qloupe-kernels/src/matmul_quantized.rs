//! Products of two computed 8-bit matrices: packing, tiles and requantization in one pass over the output.

#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod tile;

use qloupe_tensor::Requantize;
use rayon::prelude::*;

use crate::rounded::ToByte;
use crate::{Epilogue, Isa, QuantizedSlice, QuantizedSliceMut, isa, parallel};

/// Matrices `a [m, k]` and `b [k, n]`, any number of them in two buffers.
#[derive(Clone, Copy, Debug)]
pub struct MatMulQuantized<'a> {
    /// The left-hand matrices.
    pub a: QuantizedSlice<'a>,
    /// The right-hand matrices.
    pub b: QuantizedSlice<'a>,
    /// Rows of a.
    pub m: usize,
    /// Columns of a, rows of b.
    pub k: usize,
    /// Columns of b.
    pub n: usize,
    /// The zero point of a.
    pub a_zero_point: i32,
    /// The zero point of b.
    pub b_zero_point: i32,
    /// How sums become outputs; the multipliers are one, or one for each column.
    pub epilogue: &'a Epilogue,
}

/// Columns of the widest tile.
const MAX_WIDTH: usize = 64;

impl MatMulQuantized<'_> {
    /// The largest k whose sums int32 holds, whatever the elements are.
    pub const MAX_K: usize = i32::MAX as usize / (255 * 255);

    /// `out[i] = requantize((a - a_zero_point) * (b - b_zero_point))` for the matrices that begin at each pair of offsets.
    pub fn run(&self, offsets: &[(usize, usize)], out: QuantizedSliceMut<'_>) {
        self.run_with_isa(isa(), offsets, out);
    }

    /// [`MatMulQuantized::run`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn run_with_isa(&self, isa: Isa, offsets: &[(usize, usize)], out: QuantizedSliceMut<'_>) {
        isa.require();
        let (m, k, n) = (self.m, self.k, self.n);
        assert!(k <= Self::MAX_K, "{k} products in a sum of int32");
        assert_eq!(out.len(), offsets.len() * m * n, "length of the output");
        for &(a, b) in offsets {
            assert!(a + m * k <= self.a.len(), "a matrix outside a");
            assert!(b + k * n <= self.b.len(), "a matrix outside b");
        }
        if out.is_empty() {
            return;
        }
        self.epilogue.check(n, &out);
        let out = out.bytes_mut();
        let mut multiplier = match *self.epilogue.multiplier.as_slice() {
            [one] => vec![one; n],
            ref all => all.to_vec(),
        };
        multiplier.resize(n + MAX_WIDTH, 0.0);
        let rows = |(first, out): (usize, &mut [u8]), (a, b): (usize, usize)| {
            let part = Part {
                a: &self.a.bytes()[a + first * k..][..out.len() / n * k],
                b: &self.b.bytes()[b..][..k * n],
                flip_a: self.a.flip(),
                flip_b: self.b.flip(),
                k,
                n,
                a_zero_point: self.a_zero_point,
                b_zero_point: self.b_zero_point,
                multiplier: &multiplier,
                epilogue: self.epilogue,
            };
            part.run(isa, out);
        };
        let threads = rayon::current_num_threads();
        if threads == 1 || m * k * n * offsets.len() < parallel::GRAIN {
            let matrices = out.chunks_mut(m * n).zip(offsets);
            matrices.for_each(|(out, &offsets)| rows((0, out), offsets));
            return;
        }
        // A part packs its b again: no more parts than threads need.
        let n_parts = (2 * threads).div_ceil(offsets.len()).min(m);
        let per_part = m.div_ceil(n_parts);
        out.par_chunks_mut(m * n)
            .zip(offsets)
            .for_each(|(out, &offsets)| {
                out.par_chunks_mut(per_part * n)
                    .enumerate()
                    .for_each(|(i, out)| rows((i * per_part, out), offsets));
            });
    }
}

/// Some rows of one product, on one thread. `flip_a` and `flip_b` make the bytes unsigned: they are the zero points' shift.
struct Part<'a> {
    a: &'a [u8],
    b: &'a [u8],
    flip_a: u8,
    flip_b: u8,
    k: usize,
    n: usize,
    a_zero_point: i32,
    b_zero_point: i32,
    /// One for each column, and `MAX_WIDTH` more.
    multiplier: &'a [f32],
    epilogue: &'a Epilogue,
}

impl Part<'_> {
    fn run(&self, isa: Isa, out: &mut [u8]) {
        match isa {
            _ if self.k == 0 => self.run_plain(out),
            Isa::Scalar => self.run_plain(out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set is that of the machine.
            Isa::Avx2 | Isa::Avx512 => unsafe { tile::run_avx2(self, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set is that of the machine.
            Isa::Vnni | Isa::Amx => unsafe { tile::run_vnni(self, out) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.run_plain(out),
        }
    }

    /// The specification: one sum after the other.
    fn run_plain(&self, out: &mut [u8]) {
        let value = |byte: u8, flip: u8| i32::from(byte ^ flip) - i32::from(flip);
        for (r, out) in out.chunks_mut(self.n).enumerate() {
            let a = &self.a[r * self.k..][..self.k];
            let sums: Vec<i32> = (0..self.n)
                .map(|column| {
                    let products = a.iter().enumerate().map(|(i, &a)| {
                        (value(a, self.flip_a) - self.a_zero_point)
                            * (value(self.b[i * self.n + column], self.flip_b) - self.b_zero_point)
                    });
                    products.sum()
                })
                .collect();
            let e = self.epilogue;
            for ((q, &sum), &multiplier) in out.iter_mut().zip(&sums).zip(self.multiplier) {
                *q = e.policy.apply(sum, multiplier, e.zero_point, (e.min, e.max)) as u8;
            }
        }
    }

    /// Requantizes sums of the columns from `first` on, as many as `out` holds.
    #[inline(always)]
    fn requantize<const WIDTH: usize>(&self, sums: &[i32; WIDTH], first: usize, out: &mut [u8]) {
        let e = self.epilogue;
        let multiplier: &[f32; WIDTH] = self.multiplier[first..]
            .first_chunk()
            .expect("invariant: the multipliers reach beyond the last column");
        let mut bytes = [0; WIDTH];
        match e.policy {
            Requantize::FloatScaleZeroPointAfter => {
                let to_byte = ToByte::new((e.min, e.max), e.zero_point);
                for i in 0..WIDTH {
                    bytes[i] = to_byte.byte(sums[i] as f32 * multiplier[i]);
                }
            }
            Requantize::FloatScaleZeroPointBefore => {
                let (to_byte, zero_point) = (ToByte::new((e.min, e.max), 0), e.zero_point as f32);
                for i in 0..WIDTH {
                    bytes[i] = to_byte.byte(sums[i] as f32 * multiplier[i] + zero_point);
                }
            }
            policy => {
                for i in 0..WIDTH {
                    bytes[i] = policy.apply(sums[i], multiplier[i], e.zero_point, (e.min, e.max)) as u8;
                }
            }
        }
        out.copy_from_slice(&bytes[..out.len()]);
    }
}

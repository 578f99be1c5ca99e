//! Add and Mul of two 8-bit values on their grids, without a table of pairs.

mod formula;

use qloupe_tensor::Requantize;
use rayon::prelude::*;

use self::formula::{AddAfter, AddBefore, Formula, MulAfter, MulBefore};
use crate::buffer::with_scratch;
use crate::multiversion::multiversion;
use crate::rounded::ToByte;
use crate::{Isa, QuantizedSlice, QuantizedSliceMut, isa, parallel};

/// An operation on two quantized values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the ONNX names")]
pub enum QuantizedBinaryKernel {
    Add,
    Mul,
}

/// Add or Mul from two grids to a third.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedBinary {
    /// The operation.
    pub kernel: QuantizedBinaryKernel,
    /// Scale and zero point of the first operand.
    pub a: (f32, i32),
    /// Scale and zero point of the second operand.
    pub b: (f32, i32),
    /// Scale and zero point of the result.
    pub out: (f32, i32),
    /// The zero point of the result is added before rounding, not after.
    pub zero_point_before: bool,
    /// The smallest and the largest result: of the dtype, or of a fused Relu or Clip.
    pub range: (i32, i32),
}

/// Rows of a repeated operand are joined up to this many elements.
const PATTERN: usize = 4096;

impl QuantizedBinary {
    /// The result for one pair: the specification of [`QuantizedBinary::run`].
    ///
    /// # Source
    /// ONNX Runtime `MlasQLinearAdd` and `MlasQLinearMul` with the zero point before rounding; docs/NUMERICS.md.
    pub fn apply(&self, a: i32, b: i32) -> i32 {
        let signs = (0, 0);
        let value = match (self.kernel, self.zero_point_before) {
            (QuantizedBinaryKernel::Add, true) => AddBefore::new(self, signs).real(a, b),
            (QuantizedBinaryKernel::Add, false) => AddAfter::new(self, signs).real(a, b),
            (QuantizedBinaryKernel::Mul, true) => MulBefore::new(self, signs).real(a, b),
            (QuantizedBinaryKernel::Mul, false) => MulAfter::new(self, signs).real(a, b),
        };
        let zero_point = if self.zero_point_before { 0 } else { self.out.1 };
        Requantize::FloatScaleZeroPointAfter.apply(1, value, zero_point, self.range)
    }

    /// `out[o, r, i] = f(a[o, r, i], b[o, i])`, or the same with the operands in their other places.
    ///
    /// The longer operand has the elements of the output. The shorter one has rows of `inner` elements, each of which is
    /// repeated: equal lengths are pairs, one element is a scalar, and rows are channels of NHWC.
    pub fn run(
        &self,
        a: QuantizedSlice<'_>,
        b: QuantizedSlice<'_>,
        inner: usize,
        out: QuantizedSliceMut<'_>,
    ) {
        self.run_with_isa(isa(), a, b, inner, out);
    }

    /// [`QuantizedBinary::run`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn run_with_isa(
        &self,
        isa: Isa,
        a: QuantizedSlice<'_>,
        b: QuantizedSlice<'_>,
        inner: usize,
        out: QuantizedSliceMut<'_>,
    ) {
        isa.require();
        let signs = Signs {
            a: a.flip(),
            b: b.flip(),
            out: matches!(out, QuantizedSliceMut::I8(_)),
        };
        let (a, b) = (a.bytes(), b.bytes());
        let (low, high) = match &out {
            QuantizedSliceMut::U8(_) => (0, 255),
            QuantizedSliceMut::I8(_) => (-128, 127),
        };
        assert!(
            low <= self.range.0 && self.range.0 <= self.range.1 && self.range.1 <= high,
            "the range {:?} is outside the output dtype",
            self.range
        );
        let out = out.bytes_mut();
        if out.is_empty() {
            return;
        }
        let block = |a: &[u8], b: &[u8], out: &mut [u8]| self.block(isa, a, b, signs, out);
        if a.len() == b.len() {
            parallel::zip3_chunks(a, b, out, block);
        } else if b.len() < a.len() {
            repeat(a, b, inner, out, &block);
        } else {
            repeat(b, a, inner, out, &|b: &[u8], a: &[u8], out: &mut [u8]| {
                block(a, b, out)
            });
        }
    }

    fn block(&self, isa: Isa, a: &[u8], b: &[u8], signs: Signs, out: &mut [u8]) {
        match (self.kernel, self.zero_point_before) {
            (QuantizedBinaryKernel::Add, true) => {
                self.pairs(isa, |signs| AddBefore::new(self, signs), a, b, signs, out);
            }
            (QuantizedBinaryKernel::Add, false) => {
                self.pairs(isa, |signs| AddAfter::new(self, signs), a, b, signs, out);
            }
            (QuantizedBinaryKernel::Mul, true) => {
                self.pairs(isa, |signs| MulBefore::new(self, signs), a, b, signs, out);
            }
            (QuantizedBinaryKernel::Mul, false) => {
                self.pairs(isa, |signs| MulAfter::new(self, signs), a, b, signs, out);
            }
        }
    }

    fn pairs<F: Formula>(
        &self,
        isa: Isa,
        formula: impl Fn((u8, u8)) -> F,
        a: &[u8],
        b: &[u8],
        signs: Signs,
        out: &mut [u8],
    ) {
        let offset = if self.zero_point_before { 0 } else { self.out.1 };
        #[cfg(target_arch = "x86_64")]
        {
            let formula = formula((0, 0));
            let narrow = formula.bound() < MAX_REAL && isa >= Isa::Avx512;
            let one_sign = signs.a == signs.b && (signs.a != 0) == signs.out;
            if narrow && one_sign {
                // SAFETY: the instruction set is that of the machine, and the results fit int32.
                unsafe {
                    if signs.out {
                        vectors::<F, true>(formula, a, b, self.range, offset, out);
                    } else {
                        vectors::<F, false>(formula, a, b, self.range, offset, out);
                    }
                }
                return;
            }
        }
        let flips = (signs.a, signs.b);
        pairs(
            isa,
            formula(flips),
            a,
            b,
            flips,
            ToByte::new(self.range, offset),
            out,
        );
    }
}

/// The bits to flip that make the operands unsigned, and whether the result is signed.
#[derive(Clone, Copy)]
struct Signs {
    a: u8,
    b: u8,
    out: bool,
}

/// Larger results do not fit int32 with a zero point.
#[cfg(target_arch = "x86_64")]
const MAX_REAL: f32 = 1e9;

/// What computes a piece of the output from pieces of the operands.
type Block<'a> = dyn Fn(&[u8], &[u8], &mut [u8]) + Sync + 'a;

/// Calls `block(part of long, the same part of short, part of out)` with each row of `short` repeated.
fn repeat(long: &[u8], short: &[u8], inner: usize, out: &mut [u8], block: &Block<'_>) {
    assert_eq!(long.len(), out.len(), "length of the longer operand");
    let rows = short.len() / inner.max(1);
    assert!(
        short.len() == rows * inner && rows > 0 && out.len().is_multiple_of(short.len()),
        "{} elements in rows of {inner} are not repeated to {}",
        short.len(),
        out.len()
    );
    let span = out.len() / rows;
    let part_len = (parallel::GRAIN / inner).max(1) * inner;
    let part = |row: &[u8], long: &[u8], out: &mut [u8]| {
        let n_rows = PATTERN.div_ceil(inner).min(out.len() / inner);
        let mut with_pattern = |pattern: &[u8]| {
            for (long, out) in long.chunks(pattern.len()).zip(out.chunks_mut(pattern.len())) {
                block(long, &pattern[..out.len()], out);
            }
        };
        if n_rows == 1 {
            with_pattern(row);
        } else {
            with_scratch(n_rows * inner, |pattern| {
                pattern[..inner].copy_from_slice(row);
                let mut n_written = inner;
                while n_written < pattern.len() {
                    let n = n_written.min(pattern.len() - n_written);
                    pattern.copy_within(..n, n_written);
                    n_written += n;
                }
                with_pattern(pattern);
            });
        }
    };
    if parallel::runs_here(out.len()) {
        let spans = long.chunks(span).zip(out.chunks_mut(span));
        spans
            .zip(short.chunks(inner))
            .for_each(|((long, out), row)| part(row, long, out));
        return;
    }
    out.par_chunks_mut(span)
        .zip(long.par_chunks(span))
        .zip(short.par_chunks(inner))
        .with_min_len((parallel::GRAIN / span).max(1))
        .for_each(|((out, long), row)| {
            out.par_chunks_mut(part_len)
                .zip(long.par_chunks(part_len))
                .for_each(|(out, long)| part(row, long, out));
        });
}

/// Elements of one step of the loop.
const STEP: usize = 64;

multiversion! {
    fn pairs [F: Formula] (
        formula: F,
        a: &[u8],
        b: &[u8],
        signs: (u8, u8),
        to_byte: ToByte,
        out: &mut [u8],
    ) {
        let (a_steps, a_rest) = a.as_chunks::<STEP>();
        let (b_steps, b_rest) = b.as_chunks::<STEP>();
        let (out_steps, out_rest) = out.as_chunks_mut::<STEP>();
        for ((out, a), b) in out_steps.iter_mut().zip(a_steps).zip(b_steps) {
            *out = step(formula, a, b, signs, to_byte);
        }
        if !out_rest.is_empty() {
            let (mut a, mut b) = ([0; STEP], [0; STEP]);
            a[..a_rest.len()].copy_from_slice(a_rest);
            b[..b_rest.len()].copy_from_slice(b_rest);
            let last = step(formula, &a, &b, signs, to_byte);
            out_rest.copy_from_slice(&last[..out_rest.len()]);
        }
    }
}

#[inline(always)]
fn step<F: Formula>(
    formula: F,
    a: &[u8; STEP],
    b: &[u8; STEP],
    signs: (u8, u8),
    to_byte: ToByte,
) -> [u8; STEP] {
    let mut out = [0; STEP];
    for i in 0..STEP {
        let real = formula.real(i32::from(a[i] ^ signs.0), i32::from(b[i] ^ signs.1));
        out[i] = to_byte.byte(real);
    }
    out
}

/// The loop in registers, for operands and a result of one sign: saturating conversions do most of the clip.
///
/// # Safety
/// The machine has AVX-512 BW, and every result is far inside int32 or NaN-free.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn vectors<F: Formula, const SIGNED: bool>(
    formula: F,
    a: &[u8],
    b: &[u8],
    range: (i32, i32),
    offset: i32,
    out: &mut [u8],
) {
    use std::arch::x86_64::*;

    // SAFETY: whole steps of 64 bytes are read and written, the last one through a buffer.
    unsafe {
        let ends = (_mm512_set1_epi8(range.0 as i8), _mm512_set1_epi8(range.1 as i8));
        let offset = _mm512_set1_epi16(offset as i16);
        // The packs interleave quarters of the four vectors.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let load = |from: *const u8| {
            let bytes = _mm_loadu_si128(from.cast());
            if SIGNED {
                _mm512_cvtepi8_epi32(bytes)
            } else {
                _mm512_cvtepu8_epi32(bytes)
            }
        };
        let quarter = |a: *const u8, b: *const u8| _mm512_cvtps_epi32(formula.real512(load(a), load(b)));
        let step = |a: *const u8, b: *const u8, out: *mut u8| {
            let (q0, q1) = (quarter(a, b), quarter(a.add(16), b.add(16)));
            let (q2, q3) = (quarter(a.add(32), b.add(32)), quarter(a.add(48), b.add(48)));
            let low = _mm512_adds_epi16(_mm512_packs_epi32(q0, q1), offset);
            let high = _mm512_adds_epi16(_mm512_packs_epi32(q2, q3), offset);
            let clipped = if SIGNED {
                let bytes = _mm512_packs_epi16(low, high);
                _mm512_min_epi8(_mm512_max_epi8(bytes, ends.0), ends.1)
            } else {
                let bytes = _mm512_packus_epi16(low, high);
                _mm512_min_epu8(_mm512_max_epu8(bytes, ends.0), ends.1)
            };
            _mm512_storeu_si512(out.cast(), _mm512_permutexvar_epi32(order, clipped));
        };
        let whole = out.len() / STEP * STEP;
        for i in (0..whole).step_by(STEP) {
            step(a.as_ptr().add(i), b.as_ptr().add(i), out.as_mut_ptr().add(i));
        }
        let rest = out.len() - whole;
        if rest > 0 {
            let (mut last_a, mut last_b, mut last) = ([0; STEP], [0; STEP], [0; STEP]);
            last_a[..rest].copy_from_slice(&a[whole..]);
            last_b[..rest].copy_from_slice(&b[whole..]);
            step(last_a.as_ptr(), last_b.as_ptr(), last.as_mut_ptr());
            out[whole..].copy_from_slice(&last[..rest]);
        }
    }
}

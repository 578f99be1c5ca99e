//! Add and Mul of two 8-bit values on their grids, without a table of pairs.

use qloupe_tensor::Rounding;
use rayon::prelude::*;

use crate::multiversion::multiversion;
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
const PATTERN: usize = 1024;

impl QuantizedBinary {
    /// The result for one pair: the specification of [`QuantizedBinary::run`].
    ///
    /// # Source
    /// ONNX Runtime `MlasQLinearAdd` and `MlasQLinearMul` with the zero point before rounding; docs/NUMERICS.md.
    pub fn apply(&self, a: i32, b: i32) -> i32 {
        let value = match (self.kernel, self.zero_point_before) {
            (QuantizedBinaryKernel::Add, true) => AddBefore::new(self).rounded(a, b),
            (QuantizedBinaryKernel::Add, false) => AddAfter::new(self).rounded(a, b),
            (QuantizedBinaryKernel::Mul, true) => MulBefore::new(self).rounded(a, b),
            (QuantizedBinaryKernel::Mul, false) => MulAfter::new(self).rounded(a, b),
        };
        clipped(value, self.bounds())
    }

    fn bounds(&self) -> (f32, f32) {
        (self.range.0 as f32, self.range.1 as f32)
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
        let signs = (a.flip(), b.flip());
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

    fn block(&self, isa: Isa, a: &[u8], b: &[u8], signs: (u8, u8), out: &mut [u8]) {
        let bounds = self.bounds();
        match (self.kernel, self.zero_point_before) {
            (QuantizedBinaryKernel::Add, true) => pairs(isa, AddBefore::new(self), a, b, signs, bounds, out),
            (QuantizedBinaryKernel::Add, false) => pairs(isa, AddAfter::new(self), a, b, signs, bounds, out),
            (QuantizedBinaryKernel::Mul, true) => pairs(isa, MulBefore::new(self), a, b, signs, bounds, out),
            (QuantizedBinaryKernel::Mul, false) => pairs(isa, MulAfter::new(self), a, b, signs, bounds, out),
        }
    }
}

/// Calls `block(part of long, the same part of short, part of out)` with each row of `short` repeated.
fn repeat(
    long: &[u8],
    short: &[u8],
    inner: usize,
    out: &mut [u8],
    block: &(dyn Fn(&[u8], &[u8], &mut [u8]) + Sync),
) {
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
        let joined;
        let pattern = if n_rows == 1 {
            row
        } else {
            joined = row.repeat(n_rows);
            &joined
        };
        for (long, out) in long.chunks(pattern.len()).zip(out.chunks_mut(pattern.len())) {
            block(long, &pattern[..out.len()], out);
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

/// An operation with its constants.
trait Formula: Copy {
    /// The integer of the output grid, before it is clipped.
    fn rounded(self, a: i32, b: i32) -> f32;
}

/// `rne(r_a * a + r_b * b + (z - (r_a * z_a + r_b * z_b)))` with `r = scale / output scale`.
#[derive(Clone, Copy)]
struct AddBefore {
    ratio_a: f32,
    ratio_b: f32,
    fixed: f32,
}

impl AddBefore {
    fn new(op: &QuantizedBinary) -> Self {
        let (ratio_a, ratio_b) = (op.a.0 / op.out.0, op.b.0 / op.out.0);
        let fixed = op.out.1 as f32 - (ratio_a * op.a.1 as f32 + ratio_b * op.b.1 as f32);
        Self {
            ratio_a,
            ratio_b,
            fixed,
        }
    }
}

impl Formula for AddBefore {
    #[inline(always)]
    fn rounded(self, a: i32, b: i32) -> f32 {
        let sum = self
            .ratio_b
            .mul_add(b as f32, self.ratio_a.mul_add(a as f32, self.fixed));
        Rounding::TiesEven.round(sum)
    }
}

/// The real numbers are added, divided by the output scale and rounded; then the zero point is added.
#[derive(Clone, Copy)]
struct AddAfter {
    a: (f32, i32),
    b: (f32, i32),
    scale: f32,
    zero_point: f32,
}

impl AddAfter {
    fn new(op: &QuantizedBinary) -> Self {
        Self {
            a: op.a,
            b: op.b,
            scale: op.out.0,
            zero_point: op.out.1 as f32,
        }
    }
}

impl Formula for AddAfter {
    #[inline(always)]
    fn rounded(self, a: i32, b: i32) -> f32 {
        let sum = (a - self.a.1) as f32 * self.a.0 + (b - self.b.1) as f32 * self.b.0;
        Rounding::TiesEven.round(sum / self.scale) + self.zero_point
    }
}

/// `rne((a - z_a) * (b - z_b) * m + z)` with `m = s_a * s_b / s`, one rounding in the multiply-add.
#[derive(Clone, Copy)]
struct MulBefore(MulAfter);

impl MulBefore {
    fn new(op: &QuantizedBinary) -> Self {
        Self(MulAfter::new(op))
    }
}

impl Formula for MulBefore {
    #[inline(always)]
    fn rounded(self, a: i32, b: i32) -> f32 {
        let product = self.0.product(a, b);
        Rounding::TiesEven.round(product.mul_add(self.0.multiplier, self.0.zero_point))
    }
}

/// `rne((a - z_a) * (b - z_b) * m) + z`.
#[derive(Clone, Copy)]
struct MulAfter {
    a_zero_point: i32,
    b_zero_point: i32,
    multiplier: f32,
    zero_point: f32,
}

impl MulAfter {
    fn new(op: &QuantizedBinary) -> Self {
        Self {
            a_zero_point: op.a.1,
            b_zero_point: op.b.1,
            multiplier: op.a.0 * op.b.0 / op.out.0,
            zero_point: op.out.1 as f32,
        }
    }

    /// Exact: each difference has nine bits and a sign, and so has its float.
    #[inline(always)]
    fn product(self, a: i32, b: i32) -> f32 {
        (a - self.a_zero_point) as f32 * (b - self.b_zero_point) as f32
    }
}

impl Formula for MulAfter {
    #[inline(always)]
    fn rounded(self, a: i32, b: i32) -> f32 {
        Rounding::TiesEven.round(self.product(a, b) * self.multiplier) + self.zero_point
    }
}

/// Clips in float, NaN to the lowest, and converts.
#[inline(always)]
fn clipped(value: f32, (min, max): (f32, f32)) -> i32 {
    let raised = if value > min { value } else { min };
    let clipped = if raised < max { raised } else { max };
    // SAFETY: the value is inside an 8-bit range, and not NaN.
    unsafe { clipped.to_int_unchecked() }
}

/// Elements of one step of the loop.
const STEP: usize = 64;

multiversion! {
    fn pairs [F: Formula] (
        formula: F,
        a: &[u8],
        b: &[u8],
        signs: (u8, u8),
        bounds: (f32, f32),
        out: &mut [u8],
    ) {
        let (a_steps, a_rest) = a.as_chunks::<STEP>();
        let (b_steps, b_rest) = b.as_chunks::<STEP>();
        let (out_steps, out_rest) = out.as_chunks_mut::<STEP>();
        for ((out, a), b) in out_steps.iter_mut().zip(a_steps).zip(b_steps) {
            *out = step(formula, a, b, signs, bounds);
        }
        if !out_rest.is_empty() {
            let (mut a, mut b) = ([0; STEP], [0; STEP]);
            a[..a_rest.len()].copy_from_slice(a_rest);
            b[..b_rest.len()].copy_from_slice(b_rest);
            let last = step(formula, &a, &b, signs, bounds);
            out_rest.copy_from_slice(&last[..out_rest.len()]);
        }
    }
}

/// A byte is the integer plus 128 when its top bit was flipped: the sign is `flip`, taken off again.
#[inline(always)]
fn step<F: Formula>(
    formula: F,
    a: &[u8; STEP],
    b: &[u8; STEP],
    (flip_a, flip_b): (u8, u8),
    bounds: (f32, f32),
) -> [u8; STEP] {
    let mut out = [0; STEP];
    for i in 0..STEP {
        let a = i32::from(a[i] ^ flip_a) - i32::from(flip_a);
        let b = i32::from(b[i] ^ flip_b) - i32::from(flip_b);
        out[i] = clipped(formula.rounded(a, b), bounds) as u8;
    }
    out
}

//! Quantize, dequantize and fake-quantize over whole buffers.
//!
//! The arithmetic is `qloupe_tensor`'s; these are its loops per tensor for u8 and s8, ties to even.

use std::mem::MaybeUninit;

use qloupe_tensor::Rounding;

use crate::buffer::{as_unwritten, filled};
use crate::multiversion::multiversion;
use crate::{Isa, QuantizedSlice, QuantizedSliceMut, isa, parallel};

/// `clip(rne(x / scale) + zero_point)` as a float, clipped in float; NaN becomes the lowest integer.
#[inline(always)]
fn quantized(x: f32, scale: f32, zero_point: f32, (min, max): (f32, f32)) -> f32 {
    let shifted = Rounding::TiesEven.round(x / scale) + zero_point;
    let raised = if shifted > min { shifted } else { min };
    if raised < max { raised } else { max }
}

/// Converts what [`quantized`] clipped, without the checks that keep the compiler from vectorizing.
#[inline(always)]
fn to_i32(clipped: f32) -> i32 {
    // SAFETY: the value is inside an 8-bit range, and not NaN.
    unsafe { clipped.to_int_unchecked() }
}

const U8_RANGE: (f32, f32) = (0.0, 255.0);
const I8_RANGE: (f32, f32) = (-128.0, 127.0);

/// `out = clip(rne(x / scale) + zero_point)`, bit-equal to `qloupe_tensor::quantize_linear`.
pub fn quantize(x: &[f32], scale: f32, zero_point: i32, out: QuantizedSliceMut<'_>) {
    quantize_with_isa(isa(), x, scale, zero_point, out);
}

/// [`quantize`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn quantize_with_isa(isa: Isa, x: &[f32], scale: f32, zero_point: i32, out: QuantizedSliceMut<'_>) {
    isa.require();
    match out {
        QuantizedSliceMut::U8(out) => {
            parallel::zip_chunks(x, out, |x, out| {
                quantize_u8(isa, x, scale, zero_point as f32, as_unwritten(out))
            });
        }
        QuantizedSliceMut::I8(out) => {
            parallel::zip_chunks(x, out, |x, out| {
                quantize_i8(isa, x, scale, zero_point as f32, as_unwritten(out))
            });
        }
    }
}

/// `out = (q - zero_point) * scale`, bit-equal to `qloupe_tensor::dequantize_linear`.
pub fn dequantize(q: QuantizedSlice<'_>, scale: f32, zero_point: i32, out: &mut [f32]) {
    dequantize_into(q, scale, zero_point, as_unwritten(out));
}

fn dequantize_into(q: QuantizedSlice<'_>, scale: f32, zero_point: i32, out: &mut [MaybeUninit<f32>]) {
    let isa = isa();
    match q {
        QuantizedSlice::U8(q) => {
            parallel::zip_chunks(q, out, |q, out| dequantize_block(isa, q, scale, zero_point, out))
        }
        QuantizedSlice::I8(q) => {
            parallel::zip_chunks(q, out, |q, out| dequantize_block(isa, q, scale, zero_point, out))
        }
    }
}

/// [`quantize`] to a new vector of u8.
pub fn quantize_to_u8(x: &[f32], scale: f32, zero_point: i32) -> Vec<u8> {
    let isa = isa();
    let block = |x: &[f32], out: &mut [MaybeUninit<u8>]| quantize_u8(isa, x, scale, zero_point as f32, out);
    // SAFETY: the blocks write every element.
    unsafe { filled(x.len(), |out| parallel::zip_chunks(x, out, block)) }
}

/// [`quantize`] to a new vector of s8.
pub fn quantize_to_i8(x: &[f32], scale: f32, zero_point: i32) -> Vec<i8> {
    let isa = isa();
    let block = |x: &[f32], out: &mut [MaybeUninit<i8>]| quantize_i8(isa, x, scale, zero_point as f32, out);
    // SAFETY: the blocks write every element.
    unsafe { filled(x.len(), |out| parallel::zip_chunks(x, out, block)) }
}

/// [`dequantize`] to a new vector.
pub fn dequantize_to_vec(q: QuantizedSlice<'_>, scale: f32, zero_point: i32) -> Vec<f32> {
    // SAFETY: every element is written.
    unsafe { filled(q.len(), |out| dequantize_into(q, scale, zero_point, out)) }
}

/// The values that the integers `min..=max` with `scale` and `zero_point` stand for, bit-equal to
/// `qloupe_tensor::fake_quantize_linear`. The bounds are those of an integer type of at most 16 bits.
pub fn fake_quantize(x: &[f32], scale: f32, zero_point: i32, (min, max): (i32, i32), out: &mut [f32]) {
    let isa = isa();
    assert!(
        (-65_536..=65_536).contains(&min) && (-65_536..=65_536).contains(&max),
        "bounds {min} and {max} have more than 16 bits"
    );
    let range = (min as f32, max as f32);
    parallel::zip_chunks(x, out, |x, out| {
        fake_block(isa, x, scale, zero_point as f32, range, out)
    });
}

multiversion! {
    fn quantize_u8(x: &[f32], scale: f32, zero_point: f32, out: &mut [MaybeUninit<u8>]) {
        for (out, &x) in out.iter_mut().zip(x) {
            out.write(to_i32(quantized(x, scale, zero_point, U8_RANGE)) as u8);
        }
    }
}

multiversion! {
    fn quantize_i8(x: &[f32], scale: f32, zero_point: f32, out: &mut [MaybeUninit<i8>]) {
        for (out, &x) in out.iter_mut().zip(x) {
            out.write(to_i32(quantized(x, scale, zero_point, I8_RANGE)) as i8);
        }
    }
}

multiversion! {
    pub(crate) fn dequantize_block [Q: Copy + Into<i32>] (q: &[Q], scale: f32, zero_point: i32, out: &mut [MaybeUninit<f32>]) {
        for (out, &q) in out.iter_mut().zip(q) {
            let q: i32 = q.into();
            out.write((q - zero_point) as f32 * scale);
        }
    }
}

multiversion! {
    fn fake_block(x: &[f32], scale: f32, zero_point: f32, range: (f32, f32), out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            // The difference of two integers below 2^24 is exact, and + 0.0 turns -0 into the integer 0.
            *out = (quantized(x, scale, zero_point, range) - zero_point + 0.0) * scale;
        }
    }
}

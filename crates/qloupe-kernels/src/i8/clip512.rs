//! Requantization of 512-bit vectors: the float-scale policies of `qloupe_tensor::Requantize`.
//!
//! The upper bound is applied in float, before a conversion that could overflow; a sum that is too small or NaN becomes
//! the smallest int32, which the saturating packs and the lower bound turn into the lower bound. The zero point that is
//! added after rounding is added to integers, because rounding commutes with adding an integer.

use std::arch::x86_64::*;

use super::vector::FloatScale;

/// The constants of a requantization.
#[derive(Clone, Copy)]
pub(crate) struct Clip512 {
    /// Added before rounding, where the policy says so.
    before: Option<__m512>,
    /// The upper bound less what is added after rounding.
    high: __m512,
    /// Added after rounding: the zero point, 0 if it was added before; and the lower bound less that.
    after: __m512i,
    low: __m512i,
    /// Bytes are signed on their way through the packs: unsigned ones are shifted by 128.
    shift8: __m512i,
    shifted_after16: __m512i,
    shifted_low8: __m512i,
}

impl Clip512 {
    /// # Safety
    /// The machine has AVX-512 F and BW.
    #[inline(always)]
    pub(crate) unsafe fn new(scale: &FloatScale) -> Self {
        let after = if scale.zero_point_before {
            0.0
        } else {
            scale.zero_point
        };
        let low = scale.range.0 as i32;
        let shift = if low < 0 { 0 } else { 128 };
        // SAFETY: the caller has AVX-512.
        unsafe {
            Self {
                before: scale.zero_point_before.then(|| _mm512_set1_ps(scale.zero_point)),
                high: _mm512_set1_ps(scale.range.1 - after),
                after: _mm512_set1_epi32(after as i32),
                low: _mm512_set1_epi32(low - after as i32),
                shift8: _mm512_set1_epi8(shift as i8),
                shifted_after16: _mm512_set1_epi16((after as i32 - shift) as i16),
                shifted_low8: _mm512_set1_epi8((low - shift) as i8),
            }
        }
    }

    /// Integers below or at the upper bound, without what is added after rounding.
    #[inline(always)]
    unsafe fn rounded(&self, acc: __m512i, multiplier: __m512) -> __m512i {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: the caller has AVX-512.
        unsafe {
            let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
            if let Some(zero_point) = self.before {
                value = _mm512_add_ps(value, zero_point);
            }
            // A NaN is the second operand, and stays.
            _mm512_cvt_roundps_epi32::<NEAREST>(_mm512_min_ps(self.high, value))
        }
    }

    /// One vector as 16 bytes.
    ///
    /// # Safety
    /// The machine has AVX-512 F and BW.
    #[inline(always)]
    pub(crate) unsafe fn bytes(&self, acc: __m512i, multiplier: __m512) -> __m128i {
        // SAFETY: the caller has AVX-512.
        unsafe {
            // Bounded first: the smallest int32 must not wrap around.
            let value = _mm512_max_epi32(self.rounded(acc, multiplier), self.low);
            _mm512_cvtepi32_epi8(_mm512_add_epi32(value, self.after))
        }
    }

    /// Four vectors as 64 bytes, one after the other.
    ///
    /// # Safety
    /// The machine has AVX-512 F and BW.
    #[inline(always)]
    pub(crate) unsafe fn bytes4(&self, acc: [__m512i; 4], multiplier: [__m512; 4]) -> __m512i {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let after = self.shifted_after16;
            let first = _mm512_packs_epi32(
                self.rounded(acc[0], multiplier[0]),
                self.rounded(acc[1], multiplier[1]),
            );
            let last = _mm512_packs_epi32(
                self.rounded(acc[2], multiplier[2]),
                self.rounded(acc[3], multiplier[3]),
            );
            let bytes = _mm512_packs_epi16(_mm512_adds_epi16(first, after), _mm512_adds_epi16(last, after));
            let bytes = _mm512_max_epi8(bytes, self.shifted_low8);
            let bytes = _mm512_xor_si512(bytes, self.shift8);
            // Each quarter holds four bytes of each vector.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, bytes)
        }
    }
}

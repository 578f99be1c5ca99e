//! The formulas of Add and Mul between grids, for one pair and for sixteen.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::QuantizedBinary;

/// An operation with its constants. A byte whose top bit was flipped is the integer plus that bit: the shifts take it off.
pub(super) trait Formula: Copy {
    /// The number of steps of the output grid, not rounded yet.
    fn real(self, a: i32, b: i32) -> f32;

    /// Sixteen of them.
    ///
    /// # Safety
    /// The machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn real512(self, a: __m512i, b: __m512i) -> __m512;

    /// No magnitude of a result is larger; NaN if there is no bound.
    fn bound(self) -> f32;
}

/// The distance of two 8-bit integers is below this.
const MAX_DISTANCE: f32 = 256.0 + 128.0;

/// `q - shift` as floats.
///
/// # Safety
/// The machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn difference(q: __m512i, shift: i32) -> __m512 {
    // SAFETY: the contract above.
    unsafe { _mm512_cvtepi32_ps(_mm512_sub_epi32(q, _mm512_set1_epi32(shift))) }
}

/// `r_a * a + r_b * b + (z - (r_a * z_a + r_b * z_b))` with `r = scale / output scale`.
#[derive(Clone, Copy)]
pub(super) struct AddBefore {
    shifts: (i32, i32),
    ratio_a: f32,
    ratio_b: f32,
    fixed: f32,
}

impl AddBefore {
    pub(super) fn new(op: &QuantizedBinary, signs: (u8, u8)) -> Self {
        let (ratio_a, ratio_b) = (op.a.0 / op.out.0, op.b.0 / op.out.0);
        let fixed = op.out.1 as f32 - (ratio_a * op.a.1 as f32 + ratio_b * op.b.1 as f32);
        Self {
            shifts: (signs.0.into(), signs.1.into()),
            ratio_a,
            ratio_b,
            fixed,
        }
    }
}

impl Formula for AddBefore {
    #[inline(always)]
    fn real(self, a: i32, b: i32) -> f32 {
        let (a, b) = ((a - self.shifts.0) as f32, (b - self.shifts.1) as f32);
        self.ratio_b.mul_add(b, self.ratio_a.mul_add(a, self.fixed))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn real512(self, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller's. The shifts are 0: vectors hold the integers themselves.
        unsafe {
            let (a, b) = (_mm512_cvtepi32_ps(a), _mm512_cvtepi32_ps(b));
            let first = _mm512_fmadd_ps(_mm512_set1_ps(self.ratio_a), a, _mm512_set1_ps(self.fixed));
            _mm512_fmadd_ps(_mm512_set1_ps(self.ratio_b), b, first)
        }
    }

    fn bound(self) -> f32 {
        self.fixed.abs() + MAX_DISTANCE * (self.ratio_a + self.ratio_b)
    }
}

/// The real numbers are added and divided by the output scale.
#[derive(Clone, Copy)]
pub(super) struct AddAfter {
    shifts: (i32, i32),
    scale_a: f32,
    scale_b: f32,
    scale: f32,
}

impl AddAfter {
    pub(super) fn new(op: &QuantizedBinary, signs: (u8, u8)) -> Self {
        Self {
            shifts: (op.a.1 + i32::from(signs.0), op.b.1 + i32::from(signs.1)),
            scale_a: op.a.0,
            scale_b: op.b.0,
            scale: op.out.0,
        }
    }
}

impl Formula for AddAfter {
    #[inline(always)]
    fn real(self, a: i32, b: i32) -> f32 {
        let (a, b) = ((a - self.shifts.0) as f32, (b - self.shifts.1) as f32);
        (a * self.scale_a + b * self.scale_b) / self.scale
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn real512(self, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let (a, b) = (difference(a, self.shifts.0), difference(b, self.shifts.1));
            let first = _mm512_mul_ps(a, _mm512_set1_ps(self.scale_a));
            let second = _mm512_mul_ps(b, _mm512_set1_ps(self.scale_b));
            _mm512_div_ps(_mm512_add_ps(first, second), _mm512_set1_ps(self.scale))
        }
    }

    fn bound(self) -> f32 {
        MAX_DISTANCE * (self.scale_a + self.scale_b) / self.scale
    }
}

/// `(a - z_a) * (b - z_b) * m + z` with `m = s_a * s_b / s`, one rounding in the multiply-add.
#[derive(Clone, Copy)]
pub(super) struct MulBefore {
    product: MulAfter,
    zero_point: f32,
}

impl MulBefore {
    pub(super) fn new(op: &QuantizedBinary, signs: (u8, u8)) -> Self {
        Self {
            product: MulAfter::new(op, signs),
            zero_point: op.out.1 as f32,
        }
    }
}

impl Formula for MulBefore {
    #[inline(always)]
    fn real(self, a: i32, b: i32) -> f32 {
        let product = self.product.of_differences(a, b);
        product.mul_add(self.product.multiplier, self.zero_point)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn real512(self, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let product = self.product.of_differences512(a, b);
            let multiplier = _mm512_set1_ps(self.product.multiplier);
            _mm512_fmadd_ps(product, multiplier, _mm512_set1_ps(self.zero_point))
        }
    }

    fn bound(self) -> f32 {
        self.product.bound() + self.zero_point.abs()
    }
}

/// `(a - z_a) * (b - z_b) * m`.
#[derive(Clone, Copy)]
pub(super) struct MulAfter {
    shifts: (i32, i32),
    multiplier: f32,
}

impl MulAfter {
    pub(super) fn new(op: &QuantizedBinary, signs: (u8, u8)) -> Self {
        Self {
            shifts: (op.a.1 + i32::from(signs.0), op.b.1 + i32::from(signs.1)),
            multiplier: op.a.0 * op.b.0 / op.out.0,
        }
    }

    /// Exact: each difference has nine bits and a sign, and so has its float.
    #[inline(always)]
    fn of_differences(self, a: i32, b: i32) -> f32 {
        (a - self.shifts.0) as f32 * (b - self.shifts.1) as f32
    }

    /// # Safety
    /// The machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn of_differences512(self, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_mul_ps(difference(a, self.shifts.0), difference(b, self.shifts.1)) }
    }
}

impl Formula for MulAfter {
    #[inline(always)]
    fn real(self, a: i32, b: i32) -> f32 {
        self.of_differences(a, b) * self.multiplier
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn real512(self, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_mul_ps(self.of_differences512(a, b), _mm512_set1_ps(self.multiplier)) }
    }

    fn bound(self) -> f32 {
        MAX_DISTANCE * MAX_DISTANCE * self.multiplier
    }
}

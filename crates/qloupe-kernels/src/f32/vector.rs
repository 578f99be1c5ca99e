//! The float vectors that the kernels are written over, one implementation for each instruction set.

use std::arch::x86_64::*;

/// A vector of f32.
///
/// # Safety
/// Every method needs the instruction set of the implementation, and pointers valid for the lanes that it names.
/// Callers are `#[target_feature]` functions, into which everything is inlined.
pub(crate) trait F32Vector: Copy {
    /// Number of elements.
    const LANES: usize;
    /// Every lane is `value`.
    unsafe fn splat(value: f32) -> Self;
    /// All lanes from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` lanes from memory, the others 0.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// All lanes to memory.
    unsafe fn store(self, to: *mut f32);
    /// The first `n` lanes to memory.
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// `self * factor + sum`, rounded once.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// Clipped to `[min, max]`; NaN stays NaN.
    unsafe fn clip(self, min: Self, max: Self) -> Self;
    /// Brings a line near; any address will do.
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: every x86-64 processor has this; it has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}

/// 16 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

#[inline(always)]
fn first16(n: usize) -> u16 {
    ((1_u32 << n) - 1) as u16
}

impl F32Vector for Avx512 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has AVX-512 and 16 elements.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        // SAFETY: the caller has AVX-512 and `n` elements; masked lanes are not read.
        Self(unsafe { _mm512_maskz_loadu_ps(first16(n), from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has AVX-512 and 16 elements.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: the caller has AVX-512 and `n` elements; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, first16(n), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }
    #[inline(always)]
    unsafe fn clip(self, min: Self, max: Self) -> Self {
        // The second operand is the result when one is NaN.
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_min_ps(max.0, _mm512_max_ps(min.0, self.0)) })
    }
}

/// 8 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// A mask of the first `n` of 8 lanes.
///
/// # Safety
/// The caller has AVX2; `n <= 8`.
#[inline(always)]
unsafe fn first8(n: usize) -> __m256i {
    const SLIDING: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: 8 elements from position `8 - n` are inside the table.
    unsafe { _mm256_loadu_si256(SLIDING.as_ptr().add(8 - n).cast()) }
}

impl F32Vector for Avx2 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has AVX2 and 8 elements.
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        // SAFETY: the caller has AVX2 and `n` elements; masked lanes are not read.
        Self(unsafe { _mm256_maskload_ps(from, first8(n)) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has AVX2 and 8 elements.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: the caller has AVX2 and `n` elements; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, first8(n), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: the caller has FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }
    #[inline(always)]
    unsafe fn clip(self, min: Self, max: Self) -> Self {
        // The second operand is the result when one is NaN.
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_min_ps(max.0, _mm256_max_ps(min.0, self.0)) })
    }
}

//! The integer vectors that the kernels are written over. All of them are exact modulo 2^32.

use std::arch::x86_64::*;

use super::clip512::Clip512;
use crate::buffer::Plain;

/// How accumulators leave the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    /// As they are.
    Accumulators(*mut i32),
    /// Requantized to 8 bits.
    Quantized(*mut u8, FloatScale),
}

// SAFETY: threads write disjoint outputs, as the kernels demand.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// The float-scale policies of `qloupe_tensor::Requantize`, over padded channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloatScale {
    /// One for each lane of each vector of channels.
    pub(crate) multiplier: *const f32,
    pub(crate) zero_point: f32,
    pub(crate) range: (f32, f32),
    /// The zero point is added before rounding, not after.
    pub(crate) zero_point_before: bool,
}

/// A vector of int32 accumulators.
///
/// # Safety
/// Every method needs the instruction set of the implementation, and pointers valid for the lanes that it names.
pub(crate) trait I32Vector: Copy + 'static {
    /// Number of accumulators.
    const LANES: usize;
    /// Activations as they are multiplied in a dense product: four u8, or two i16, to an accumulator and step.
    type X: Plain;
    /// Activations in 32 bits.
    const K_STEP: usize;
    /// Every lane is `value`.
    unsafe fn splat(value: i32) -> Self;
    /// All lanes from memory.
    unsafe fn load(from: *const i32) -> Self;
    /// `self + ` the products of the activations `x` (in every lane) and the packed weights.
    unsafe fn dot(self, x: Self, weight: Self) -> Self;
    /// The first `lanes` bytes, each xor `flip`, as int32.
    unsafe fn load_bytes(from: *const u8, flip: u8, lanes: usize) -> Self;
    /// `self + x * weight` for 16-bit values in 32-bit lanes; the upper halves of `weight` are 0.
    unsafe fn mul_add(self, x: Self, weight: Self) -> Self;
    /// The first `lanes` lanes to memory.
    unsafe fn store_first(self, to: *mut i32, lanes: usize);
    /// A vector of floats.
    type Floats: Copy;
    /// All lanes of floats from memory.
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    /// The constants of a requantization.
    type Clip: Copy;
    /// The constants of `scale`.
    unsafe fn clip(scale: &FloatScale) -> Self::Clip;
    /// The first `lanes` lanes requantized to bytes.
    unsafe fn requantize(self, multiplier: Self::Floats, clip: &Self::Clip, to: *mut u8, lanes: usize);
}

/// Writes accumulators where `output` says.
///
/// # Safety
/// As for [`I32Vector`].
#[inline(always)]
pub(crate) unsafe fn finish<V: I32Vector>(sum: V, output: &Output, channel: usize, to: usize, lanes: usize) {
    // SAFETY: the caller's.
    unsafe {
        match output {
            Output::Accumulators(out) => sum.store_first(out.add(to), lanes),
            Output::Quantized(out, scale) => {
                let multiplier = V::load_floats(scale.multiplier.add(channel));
                sum.requantize(multiplier, &V::clip(scale), out.add(to), lanes);
            }
        }
    }
}

/// 16 lanes, four u8 times four s8 to a step.
#[derive(Clone, Copy)]
pub(crate) struct Vnni(pub(super) __m512i);

#[inline(always)]
fn first16(n: usize) -> u16 {
    ((1_u32 << n) - 1) as u16
}

impl I32Vector for Vnni {
    const LANES: usize = 16;
    type X = u8;
    type Floats = __m512;
    const K_STEP: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_set1_epi32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller has AVX-512 and 16 elements.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, weight: Self) -> Self {
        // SAFETY: the caller has VNNI.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, x.0, weight.0) })
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8, flip: u8, lanes: usize) -> Self {
        // SAFETY: the caller has AVX-512 and `lanes` bytes; masked bytes are not read.
        unsafe {
            let bytes = if lanes == 16 {
                _mm_loadu_si128(from.cast())
            } else {
                _mm_maskz_loadu_epi8(first16(lanes), from.cast())
            };
            Self(_mm512_cvtepu8_epi32(_mm_xor_si128(
                bytes,
                _mm_set1_epi8(flip as i8),
            )))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, weight: Self) -> Self {
        // SAFETY: the caller has VNNI.
        Self(unsafe { _mm512_dpwssd_epi32(self.0, x.0, weight.0) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut i32, lanes: usize) {
        // SAFETY: the caller has AVX-512 and `lanes` elements; masked lanes are not written.
        unsafe { _mm512_mask_storeu_epi32(to, first16(lanes), self.0) }
    }
    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> Self::Floats {
        // SAFETY: the caller has AVX-512 and 16 elements.
        unsafe { _mm512_loadu_ps(from) }
    }
    type Clip = Clip512;
    #[inline(always)]
    unsafe fn clip(scale: &FloatScale) -> Clip512 {
        // SAFETY: the caller has AVX-512.
        unsafe { Clip512::new(scale) }
    }
    #[inline(always)]
    unsafe fn requantize(self, multiplier: Self::Floats, clip: &Clip512, to: *mut u8, lanes: usize) {
        // SAFETY: the caller has AVX-512 and `lanes` bytes.
        unsafe {
            let bytes = clip.bytes(self.0, multiplier);
            if lanes == 16 {
                _mm_storeu_si128(to.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(to.cast(), first16(lanes), bytes);
            }
        }
    }
}

/// 8 lanes, two i16 times two i16 to a step: exact, unlike the saturating byte product of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256i);

impl I32Vector for Avx2 {
    const LANES: usize = 8;
    type X = i16;
    type Floats = __m256;
    const K_STEP: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_set1_epi32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller has AVX2 and 8 elements.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, weight: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(x.0, weight.0)) })
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8, flip: u8, lanes: usize) -> Self {
        // SAFETY: the caller has AVX2 and `lanes` bytes.
        unsafe {
            let bytes = if lanes == 8 {
                _mm_loadl_epi64(from.cast())
            } else {
                let mut padded = [0_u8; 8];
                std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), lanes);
                _mm_loadl_epi64(padded.as_ptr().cast())
            };
            Self(_mm256_cvtepu8_epi32(_mm_xor_si128(
                bytes,
                _mm_set1_epi8(flip as i8),
            )))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, weight: Self) -> Self {
        // SAFETY: the caller has AVX2.
        unsafe { self.dot(x, weight) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut i32, lanes: usize) {
        // SAFETY: the caller has AVX2 and `lanes` elements.
        unsafe {
            let mut all = [0_i32; 8];
            _mm256_storeu_si256(all.as_mut_ptr().cast(), self.0);
            std::ptr::copy_nonoverlapping(all.as_ptr(), to, lanes);
        }
    }
    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> Self::Floats {
        // SAFETY: the caller has AVX2 and 8 elements.
        unsafe { _mm256_loadu_ps(from) }
    }
    type Clip = FloatScale;
    #[inline(always)]
    unsafe fn clip(scale: &FloatScale) -> FloatScale {
        *scale
    }
    #[inline(always)]
    unsafe fn requantize(self, multiplier: Self::Floats, scale: &FloatScale, to: *mut u8, lanes: usize) {
        // SAFETY: the caller has AVX2 and `lanes` bytes.
        unsafe {
            let zero_point = _mm256_set1_ps(scale.zero_point);
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(self.0), multiplier);
            let value = if scale.zero_point_before {
                _mm256_round_ps::<8>(_mm256_add_ps(value, zero_point))
            } else {
                _mm256_add_ps(_mm256_round_ps::<8>(value), zero_point)
            };
            // NaN becomes the lower bound: the second operand of the maximum.
            let value = _mm256_max_ps(value, _mm256_set1_ps(scale.range.0));
            let value = _mm256_min_ps(value, _mm256_set1_ps(scale.range.1));
            // The low byte of every lane, gathered in the low 4 bytes of each half.
            let low_bytes = _mm256_set1_epi32(0x0c08_0400);
            let bytes = _mm256_shuffle_epi8(_mm256_cvtps_epi32(value), low_bytes);
            let low = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)) as u32;
            let high = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes)) as u32;
            let all = (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
            std::ptr::copy_nonoverlapping(all.as_ptr(), to, lanes);
        }
    }
}

//! Rounding whole buffers to float16 storage, bit-equal to `qloupe_tensor::round_to_fp16_in_place`.

use qloupe_tensor::{Fp16Counts, round_to_fp16_in_place};

use crate::{Isa, isa, parallel};

/// Rounds every value to float16 and counts what is lost.
pub fn round_to_fp16(values: &mut [f32]) -> Fp16Counts {
    round_to_fp16_with_isa(isa(), values)
}

/// [`round_to_fp16`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn round_to_fp16_with_isa(isa: Isa, values: &mut [f32]) -> Fp16Counts {
    let isa = isa.require();
    let merge = |mut all: Fp16Counts, part| {
        all.merge(part);
        all
    };
    parallel::fold_chunks_mut(values, |values| block(isa, values), merge)
}

fn block(isa: Isa, values: &mut [f32]) -> Fp16Counts {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        // SAFETY: the instruction set was required to be available.
        return unsafe { avx512(values) };
    }
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Scalar {
        // SAFETY: every other instruction set has AVX2 and F16C, and was required to be available.
        return unsafe { f16c(values) };
    }
    let _ = isa;
    round_to_fp16_in_place(values)
}

/// Eight values at a time through the hardware conversions.
///
/// # Safety
/// The machine has AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn f16c(values: &mut [f32]) -> Fp16Counts {
    use std::arch::x86_64::*;

    let mut counts = Fp16Counts::default();
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let zero = _mm256_setzero_ps();
    let n_set = |mask: __m256| _mm256_movemask_ps(mask).count_ones() as usize;
    let (chunks, rest) = values.as_chunks_mut::<8>();
    for chunk in chunks {
        // SAFETY: a chunk has eight elements.
        let x = unsafe { _mm256_loadu_ps(chunk.as_ptr()) };
        let rounded = _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
        let finite = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_and_ps(x, magnitude), infinity);
        let overflow = _mm256_cmp_ps::<_CMP_EQ_OQ>(_mm256_and_ps(rounded, magnitude), infinity);
        let underflow = _mm256_cmp_ps::<_CMP_EQ_OQ>(rounded, zero);
        let nonzero = _mm256_cmp_ps::<_CMP_NEQ_OQ>(x, zero);
        counts.n_nan += n_set(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        counts.n_overflow += n_set(_mm256_and_ps(finite, overflow));
        counts.n_underflow += n_set(_mm256_and_ps(nonzero, underflow));
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(chunk.as_mut_ptr(), rounded) }
    }
    counts.merge(round_to_fp16_in_place(rest));
    counts
}

/// Sixteen values at a time; only those that may be counted are looked at one by one.
///
/// # Safety
/// The machine has AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
unsafe fn avx512(values: &mut [f32]) -> Fp16Counts {
    use std::arch::x86_64::*;

    /// The bits of the smallest magnitude that does not become 0, just above 2^-25.
    const SMALLEST: i32 = 0x3300_0001;
    /// The bits of the smallest magnitude that becomes infinite, 65520.
    const OVERFLOW: i32 = 0x477f_f000;

    let mut counts = Fp16Counts::default();
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let (smallest, usual) = (
        _mm512_set1_epi32(SMALLEST),
        _mm512_set1_epi32(OVERFLOW - SMALLEST),
    );
    let (chunks, rest) = values.as_chunks_mut::<16>();
    for chunk in chunks {
        // SAFETY: a chunk has sixteen elements.
        let x = unsafe { _mm512_loadu_ps(chunk.as_ptr()) };
        let bits = _mm512_and_si512(_mm512_castps_si512(x), magnitude);
        let nonzero = _mm512_test_epi32_mask(bits, bits);
        let counted = _mm512_mask_cmpge_epu32_mask(nonzero, _mm512_sub_epi32(bits, smallest), usual);
        if counted != 0 {
            // SAFETY: this machine has more than AVX2 and F16C.
            counts.merge(unsafe { f16c(chunk) });
            continue;
        }
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(chunk.as_mut_ptr(), _mm512_cvtph_ps(halves)) }
    }
    counts.merge(round_to_fp16_in_place(rest));
    counts
}

//! The sums of several tests in one pass over their reference, which is read and widened once.

use std::arch::x86_64::*;

use super::{LANES, Numbers, PairSums, ReferenceSums, tree};
use crate::QuantizedSlice;

/// Pairs of a step: two of each sum.
const STEP: usize = 2 * LANES;
/// Of `vrangepd`: the larger absolute value, without its sign.
const LARGER_MAGNITUDE: i32 = 0b1011;

/// A test as a step reads it.
#[derive(Clone, Copy)]
enum Source {
    Real(*const f32),
    U8(*const u8),
    I8(*const i8),
}

/// The sums of a test so far.
#[derive(Clone, Copy)]
struct Sums {
    test_sq: __m512d,
    error_sq: __m512d,
    error: __m512d,
    max_abs: __m512d,
    n_zeroed: u32,
}

/// The sums of the reference and of every test.
///
/// # Safety
/// The machine has AVX-512 F, BW, DQ and VL, and with them POPCNT; the tests are as long as the reference.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,popcnt")]
pub(super) unsafe fn all_tests<const N: usize>(
    reference: &[f32],
    tests: [Numbers<'_>; N],
    range: (f32, f32),
) -> (ReferenceSums, [PairSums; N]) {
    let sources = tests.map(|test| match test {
        Numbers::Real(values) => Source::Real(values.as_ptr()),
        Numbers::Quantized {
            q: QuantizedSlice::U8(q),
            ..
        } => Source::U8(q.as_ptr()),
        Numbers::Quantized {
            q: QuantizedSlice::I8(q),
            ..
        } => Source::I8(q.as_ptr()),
    });
    let params = tests.map(|test| match test {
        Numbers::Real(_) => (1.0, 0),
        Numbers::Quantized {
            scale, zero_point, ..
        } => (scale, zero_point),
    });
    let scales = params.map(|(scale, _)| _mm512_set1_ps(scale));
    let zero_points = params.map(|(_, zero_point)| _mm512_set1_epi32(zero_point));
    let (low, high) = (_mm512_set1_ps(range.0), _mm512_set1_ps(range.1));
    let zero = _mm512_setzero_pd();
    // Errors are added as `error * 1 + sum`: the units that add have too much to do already, and those that multiply have
    // not. The compiler would see through a 1 that it knows.
    let one = _mm512_set1_pd(std::hint::black_box(1.0));
    let mut sums = [Sums {
        test_sq: zero,
        error_sq: zero,
        error: zero,
        max_abs: zero,
        n_zeroed: 0,
    }; N];
    let (mut sq, mut n_outside) = (zero, 0_u32);
    for first in (0..reference.len()).step_by(STEP) {
        // Lanes beyond the end are pairs of zeros, which add nothing.
        let n_left = reference.len() - first;
        let inside = if n_left < STEP {
            (1 << n_left) - 1
        } else {
            __mmask16::MAX
        };
        // SAFETY: the lanes of the mask lie in the reference, and in every test.
        let r = unsafe { _mm512_maskz_loadu_ps(inside, reference.as_ptr().add(first)) };
        let outside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(inside, r, low)
            | _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(inside, r, high);
        n_outside += outside.count_ones();
        let filled = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(r, _mm512_setzero_ps());
        let (first_r, last_r) = halves(r);
        sq = _mm512_fmadd_pd(first_r, first_r, sq);
        sq = _mm512_fmadd_pd(last_r, last_r, sq);
        // Places instead of iterators, which would move the sums through memory.
        for idx in 0..N {
            // SAFETY: as above.
            let t = unsafe { sources[idx].load(first, inside, zero_points[idx], scales[idx]) };
            let zeroed = _mm512_mask_cmp_ps_mask::<_CMP_EQ_OQ>(filled, t, _mm512_setzero_ps());
            sums[idx].n_zeroed += zeroed.count_ones();
            let (first_t, last_t) = halves(t);
            sums[idx].add(first_r, first_t, one);
            sums[idx].add(last_r, last_t, one);
        }
    }
    let known = ReferenceSums {
        sq: tree(lanes(sq)),
        n_outside,
    };
    let sums = sums.map(|sums| PairSums {
        test_sq: tree(lanes(sums.test_sq)),
        error_sq: tree(lanes(sums.error_sq)),
        error: tree(lanes(sums.error)),
        max_abs: lanes(sums.max_abs).into_iter().fold(0.0, f64::max),
        n_zeroed: sums.n_zeroed,
        ..PairSums::default()
    });
    (known, sums)
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,fma")]
    fn add(&mut self, r: __m512d, t: __m512d, one: __m512d) {
        let error = _mm512_sub_pd(t, r);
        self.test_sq = _mm512_fmadd_pd(t, t, self.test_sq);
        self.error_sq = _mm512_fmadd_pd(error, error, self.error_sq);
        self.error = _mm512_fmadd_pd(error, one, self.error);
        self.max_abs = _mm512_range_pd::<LARGER_MAGNITUDE>(error, self.max_abs);
    }
}

impl Source {
    /// Real numbers from `first` on, 0 in lanes that are not `inside`.
    ///
    /// # Safety
    /// As [`all_tests`]; the lanes that are inside lie in the test.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(self, first: usize, inside: __mmask16, zero_point: __m512i, scale: __m512) -> __m512 {
        // SAFETY: the caller's.
        let q = unsafe {
            match self {
                Self::Real(values) => return _mm512_maskz_loadu_ps(inside, values.add(first)),
                Self::U8(q) => _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(inside, q.add(first).cast())),
                Self::I8(q) => _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(inside, q.add(first))),
            }
        };
        _mm512_maskz_mul_ps(inside, _mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero_point)), scale)
    }
}

/// The first and the last eight, widened.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn halves(x: __m512) -> (__m512d, __m512d) {
    let (first, last) = (_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    (_mm512_cvtps_pd(first), _mm512_cvtps_pd(last))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(sums: __m512d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array has as many.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), sums) };
    lanes
}

//! The two operands of a product as the tiles read them.

use super::Part;

/// Columns of a panel of four products a step.
pub(super) const BYTE_LANES: usize = 16;
/// Columns of a panel of two products a step.
pub(super) const PAIR_LANES: usize = 8;

/// Rows of a as unsigned bytes, each `stride` long and 0 from k on; the sums of the rows.
#[inline(always)]
pub(super) fn rows_of_bytes(
    part: &Part<'_>,
    first: usize,
    n_rows: usize,
    stride: usize,
    out: &mut [u8],
) -> [i32; 8] {
    let mut sums = [0; 8];
    for r in 0..n_rows {
        let x = &part.a[(first + r) * part.k..][..part.k];
        let (out, rest) = out[r * stride..][..stride].split_at_mut(part.k);
        rest.fill(0);
        let mut sum = 0_i32;
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x ^ part.flip_a;
            sum += i32::from(x ^ part.flip_a);
        }
        sums[r] = sum;
    }
    sums
}

/// b as signed bytes (128 below the unsigned ones) in panels `[n / 16][k / 4][16][4]`, 0 outside; adds the columns to
/// `sums`.
///
/// # Safety
/// `out` and `sums` hold whole panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn panels_of_bytes(part: &Part<'_>, k4: usize, out: &mut [i8], sums: &mut [i32]) {
    use std::arch::x86_64::*;

    // SAFETY: masked loads read the elements of b only; the stores are inside a panel.
    unsafe {
        let signed = _mm_set1_epi8((part.flip_b ^ 0x80) as i8);
        let ones = _mm512_set1_epi8(1);
        for (panel, (out, sums)) in out
            .chunks_exact_mut(k4 * 4 * BYTE_LANES)
            .zip(sums.chunks_exact_mut(BYTE_LANES))
            .enumerate()
        {
            let first = panel * BYTE_LANES;
            let mask = ((1_u32 << (part.n - first).min(BYTE_LANES)) - 1) as u16;
            let mut sum = _mm512_setzero_si512();
            for (step, out) in out.chunks_exact_mut(4 * BYTE_LANES).enumerate() {
                let row = |i: usize| {
                    if 4 * step + i < part.k {
                        let from = part.b.as_ptr().add((4 * step + i) * part.n + first);
                        let bytes = _mm_maskz_loadu_epi8(mask, from.cast());
                        _mm_maskz_mov_epi8(mask, _mm_xor_si128(bytes, signed))
                    } else {
                        _mm_setzero_si128()
                    }
                };
                let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
                let (a, b) = (_mm_unpacklo_epi8(r0, r1), _mm_unpackhi_epi8(r0, r1));
                let (c, d) = (_mm_unpacklo_epi8(r2, r3), _mm_unpackhi_epi8(r2, r3));
                let quarters = [
                    _mm_unpacklo_epi16(a, c),
                    _mm_unpackhi_epi16(a, c),
                    _mm_unpacklo_epi16(b, d),
                    _mm_unpackhi_epi16(b, d),
                ];
                for (i, quarter) in quarters.into_iter().enumerate() {
                    _mm_storeu_si128(out.as_mut_ptr().add(16 * i).cast(), quarter);
                }
                sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(out.as_ptr().cast()));
            }
            _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum);
        }
    }
}

/// The differences of rows of a to its zero point, each row `stride` long and 0 from k on.
#[inline(always)]
pub(super) fn rows_of_pairs(part: &Part<'_>, first: usize, n_rows: usize, stride: usize, out: &mut [i16]) {
    let zero_point = (part.a_zero_point + i32::from(part.flip_a)) as i16;
    for r in 0..n_rows {
        let x = &part.a[(first + r) * part.k..][..part.k];
        let (out, rest) = out[r * stride..][..stride].split_at_mut(part.k);
        rest.fill(0);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = i16::from(x ^ part.flip_a) - zero_point;
        }
    }
}

/// The differences of b to its zero point in panels `[n / 8][k / 2][8][2]`, 0 outside.
#[inline(always)]
pub(super) fn panels_of_pairs(part: &Part<'_>, k2: usize, out: &mut [i16]) {
    let zero_point = (part.b_zero_point + i32::from(part.flip_b)) as i16;
    for (panel, out) in out.chunks_exact_mut(k2 * 2 * PAIR_LANES).enumerate() {
        let first = panel * PAIR_LANES;
        let width = (part.n - first).min(PAIR_LANES);
        for (step, out) in out.chunks_exact_mut(2 * PAIR_LANES).enumerate() {
            out.fill(0);
            for i in 0..2.min(part.k - 2 * step) {
                let row = &part.b[(2 * step + i) * part.n + first..][..width];
                for (pair, &x) in out.chunks_exact_mut(2).zip(row) {
                    pair[i] = i16::from(x ^ part.flip_b) - zero_point;
                }
            }
        }
    }
}

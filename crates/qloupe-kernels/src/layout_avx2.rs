//! Square transpositions in AVX2 registers, for elements of one and four bytes.

use std::any::TypeId;
use std::arch::x86_64::*;

/// A transposition of a square block.
#[derive(Clone, Copy)]
pub(crate) struct Block<T> {
    /// Side of the square.
    pub(crate) side: usize,
    /// `(from, distance of its rows, to, distance of its rows)`.
    ///
    /// # Safety
    /// The machine has AVX2, and the pointers are valid for the square.
    pub(crate) transpose: unsafe fn(*const T, usize, *mut T, usize),
}

/// True for numbers, whose every byte is initialized.
pub(crate) fn is_plain<T: 'static>() -> bool {
    let ids = [
        TypeId::of::<f32>(),
        TypeId::of::<f64>(),
        TypeId::of::<u8>(),
        TypeId::of::<i8>(),
        TypeId::of::<u16>(),
        TypeId::of::<i16>(),
        TypeId::of::<u32>(),
        TypeId::of::<i32>(),
        TypeId::of::<u64>(),
        TypeId::of::<i64>(),
        TypeId::of::<bool>(),
    ];
    ids.contains(&TypeId::of::<T>())
}

/// The transposition for a type, if there is one; only for types whose every byte is initialized.
pub(crate) fn block_of<T: 'static>() -> Option<Block<T>> {
    let is = |ids: &[TypeId]| ids.contains(&TypeId::of::<T>());
    if is(&[TypeId::of::<f32>(), TypeId::of::<i32>(), TypeId::of::<u32>()]) {
        Some(Block {
            side: 8,
            transpose: words::<T>,
        })
    } else if is(&[TypeId::of::<u8>(), TypeId::of::<i8>(), TypeId::of::<bool>()]) {
        Some(Block {
            side: 16,
            transpose: bytes::<T>,
        })
    } else {
        None
    }
}

/// 8 x 8 elements of four bytes.
///
/// # Safety
/// As [`Block::transpose`].
#[target_feature(enable = "avx2")]
unsafe fn words<T>(from: *const T, from_stride: usize, to: *mut T, to_stride: usize) {
    // SAFETY: the contract above.
    unsafe {
        let row = |i: usize| _mm256_loadu_ps(from.add(i * from_stride).cast());
        // Lanes of 128 bits: the left halves of rows i and i + 4, then the right halves.
        let pair = |i: usize| {
            let (a, b) = (row(i), row(i + 4));
            (
                _mm256_permute2f128_ps::<0x20>(a, b),
                _mm256_permute2f128_ps::<0x31>(a, b),
            )
        };
        let (p0, p1, p2, p3) = (pair(0), pair(1), pair(2), pair(3));
        let quarter = |r0: __m256, r1: __m256, r2: __m256, r3: __m256| {
            let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            [
                _mm256_shuffle_ps::<0x44>(a, c),
                _mm256_shuffle_ps::<0xee>(a, c),
                _mm256_shuffle_ps::<0x44>(b, d),
                _mm256_shuffle_ps::<0xee>(b, d),
            ]
        };
        let left = quarter(p0.0, p1.0, p2.0, p3.0);
        let right = quarter(p0.1, p1.1, p2.1, p3.1);
        for (i, row) in left.into_iter().chain(right).enumerate() {
            _mm256_storeu_ps(to.add(i * to_stride).cast(), row);
        }
    }
}

/// 16 x 16 elements of one byte: four rounds of interleaving rows `i` and `i + 8`.
///
/// # Safety
/// As [`Block::transpose`].
#[target_feature(enable = "avx2")]
unsafe fn bytes<T>(from: *const T, from_stride: usize, to: *mut T, to_stride: usize) {
    // SAFETY: the contract above.
    unsafe {
        let mut rows = [_mm_setzero_si128(); 16];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm_loadu_si128(from.add(i * from_stride).cast());
        }
        for _ in 0..4 {
            let mut next = [_mm_setzero_si128(); 16];
            for i in 0..8 {
                next[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + 8]);
                next[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + 8]);
            }
            rows = next;
        }
        for (i, row) in rows.into_iter().enumerate() {
            _mm_storeu_si128(to.add(i * to_stride).cast(), row);
        }
    }
}

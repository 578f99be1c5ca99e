//! Copying the activations under a kernel into one piece for every output pixel.

use std::arch::x86_64::*;

/// Bytes that a copy may read and write beyond the end.
pub(super) const SLACK: usize = 64;

/// Where the patches come from and how they are laid out.
#[derive(Debug)]
pub(super) struct Patches<'a> {
    /// The first pixel of the first kernel.
    pub(super) from: *const u8,
    /// From an output pixel to the next in the input, and from an output row to the next.
    pub(super) pixel_stride: usize,
    pub(super) row_stride: usize,
    pub(super) n_rows: usize,
    pub(super) width: usize,
    /// `(offset in the input, offset in the patch)` in ascending order, and the length of each.
    pub(super) pieces: &'a [(usize, usize)],
    pub(super) length: usize,
    /// From a patch to the next.
    pub(super) bytes: usize,
}

impl Patches<'_> {
    /// Copies all patches, in order.
    ///
    /// # Safety
    /// The machine has AVX-512 F. The pieces are readable for every pixel and [`SLACK`] bytes more, and `to` holds all
    /// patches and as many bytes more.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn copy(&self, to: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match self.length {
                0..=16 => self.each(to, |from, to| {
                    _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast()));
                }),
                17..=32 => self.each(to, |from, to| {
                    _mm256_storeu_si256(to.cast(), _mm256_loadu_si256(from.cast()));
                }),
                length => self.each(to, |from, to| {
                    for at in (0..length).step_by(64) {
                        _mm512_storeu_si512(to.add(at).cast(), _mm512_loadu_si512(from.add(at).cast()));
                    }
                }),
            }
        }
    }

    #[inline(always)]
    unsafe fn each(&self, to: *mut u8, copy: impl Fn(*const u8, *mut u8)) {
        // SAFETY: the caller's.
        unsafe {
            let mut to = to;
            for row in 0..self.n_rows {
                let mut from = self.from.add(row * self.row_stride);
                for _ in 0..self.width {
                    for &(offset, at) in self.pieces {
                        copy(from.add(offset), to.add(at));
                    }
                    from = from.wrapping_add(self.pixel_stride);
                    to = to.add(self.bytes);
                }
            }
        }
    }
}

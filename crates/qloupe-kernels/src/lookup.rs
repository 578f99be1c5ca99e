//! Tables of 256 results over bytes, and rows of bytes that are joined, each member through its own table.

use rayon::prelude::*;

use crate::{Isa, QuantizedSlice, QuantizedSliceMut, isa, parallel};

/// `out = table[x]`: any function of 8-bit values. A u8 indexes as it is, an s8 by its bit pattern.
pub fn lookup(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    lookup_with_isa(isa(), x, table, out);
}

/// [`lookup`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn lookup_with_isa(isa: Isa, x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    isa.require();
    parallel::zip_chunks(x, out, |x, out| map_bytes(isa, x, table, out));
}

/// [`lookup`] on this thread.
pub(crate) fn map_bytes(isa: Isa, x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    let n = x.len();
    Rows::new(x, n, out, n, n).write(isa, 1, Some(table));
}

/// [`lookup`] of 8-bit integers by their bit patterns.
pub fn lookup_quantized(x: QuantizedSlice<'_>, table: &[u8; 256], out: QuantizedSliceMut<'_>) {
    lookup(x.bytes(), table, out.bytes_mut());
}

/// A member of a concatenation.
#[derive(Clone, Copy, Debug)]
pub struct ConcatMember<'a> {
    /// Its elements, `[rows, row]`.
    pub x: QuantizedSlice<'a>,
    /// Elements of a row.
    pub row: usize,
    /// What each byte becomes; without a table they are copied.
    pub table: Option<&'a [u8; 256]>,
}

/// `out[r] = [members[0][r], members[1][r], ..]` for each of `rows` rows, each member through its table.
pub fn concat_quantized(members: &[ConcatMember<'_>], rows: usize, out: QuantizedSliceMut<'_>) {
    concat_quantized_with_isa(isa(), members, rows, out);
}

/// [`concat_quantized`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn concat_quantized_with_isa(
    isa: Isa,
    members: &[ConcatMember<'_>],
    rows: usize,
    out: QuantizedSliceMut<'_>,
) {
    isa.require();
    let out = out.bytes_mut();
    let width: usize = members.iter().map(|m| m.row).sum();
    assert_eq!(out.len(), rows * width, "length of the output");
    for member in members {
        assert_eq!(member.x.len(), rows * member.row, "length of a member");
    }
    if out.is_empty() {
        return;
    }
    if rows == 1 {
        let mut rest = out;
        for member in members {
            let (part, after) = rest.split_at_mut(member.row);
            match member.table {
                Some(table) => lookup_with_isa(isa, member.x.bytes(), table, part),
                None => part.copy_from_slice(member.x.bytes()),
            }
            rest = after;
        }
        return;
    }
    let join = |(block, out): (usize, &mut [u8]), rows_of_block: usize| {
        let mut offset = 0;
        let n = out.len() / width;
        for member in members.iter().filter(|m| m.row > 0) {
            let x = &member.x.bytes()[block * rows_of_block * member.row..][..n * member.row];
            Rows::new(x, member.row, &mut out[offset..], width, member.row).write(isa, n, member.table);
            offset += member.row;
        }
    };
    let rows_of_block = (parallel::GRAIN / width).max(1);
    if parallel::runs_here(out.len()) {
        join((0, out), rows);
    } else {
        out.par_chunks_mut(rows_of_block * width)
            .enumerate()
            .for_each(|part| join(part, rows_of_block));
    }
}

/// Copies rows of `row` elements that begin `stride` apart in x, as many as `out` holds.
pub(crate) fn copy_rows<T: Copy + 'static>(x: &[T], stride: usize, row: usize, out: &mut [T]) {
    let n = out.len() / row;
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 && crate::layout_avx2::is_plain::<T>() {
        let size = size_of::<T>();
        assert!((n - 1) * stride + row <= x.len(), "rows outside the input");
        let rows = x86::Rows {
            x: x.as_ptr().cast(),
            x_stride: stride * size,
            out: out.as_mut_ptr().cast(),
            out_stride: row * size,
            row: row * size,
            n,
        };
        // SAFETY: the machine has AVX-512, the elements are plain bytes, and the rows lie inside the buffers.
        unsafe { rows.copy_avx512() }
        return;
    }
    for (i, out) in out.chunks_exact_mut(row).enumerate().take(n) {
        out.copy_from_slice(&x[i * stride..][..row]);
    }
}

/// Rows of bytes in two buffers, each with its distance between rows.
struct Rows<'a> {
    x: &'a [u8],
    x_stride: usize,
    out: &'a mut [u8],
    out_stride: usize,
    row: usize,
}

impl<'a> Rows<'a> {
    fn new(x: &'a [u8], x_stride: usize, out: &'a mut [u8], out_stride: usize, row: usize) -> Self {
        Self {
            x,
            x_stride,
            out,
            out_stride,
            row,
        }
    }

    /// Copies `n` rows, or maps them through a table.
    fn write(self, isa: Isa, n: usize, table: Option<&[u8; 256]>) {
        if n == 0 || self.row == 0 {
            return;
        }
        let end = |stride: usize| (n - 1) * stride + self.row;
        assert!(self.x.len() >= end(self.x_stride), "rows outside the input");
        assert!(self.out.len() >= end(self.out_stride), "rows outside the output");
        #[cfg(target_arch = "x86_64")]
        {
            let rows = x86::Rows {
                x: self.x.as_ptr(),
                x_stride: self.x_stride,
                out: self.out.as_mut_ptr(),
                out_stride: self.out_stride,
                row: self.row,
                n,
            };
            let wide = isa >= Isa::Avx512;
            // SAFETY: the instruction sets are those of the machine, and the rows lie inside the buffers.
            unsafe {
                match table {
                    None if wide => return rows.copy_avx512(),
                    Some(table) if wide && std::arch::is_x86_feature_detected!("avx512vbmi") => {
                        return rows.map_vbmi(table);
                    }
                    Some(table) if isa >= Isa::Avx2 => return rows.map_avx2(table),
                    _ => {}
                }
            }
        }
        let _ = isa;
        let inputs = self.x.chunks(self.x_stride);
        for (out, x) in self.out.chunks_mut(self.out_stride).zip(inputs).take(n) {
            let (out, x) = (&mut out[..self.row], &x[..self.row]);
            match table {
                None => out.copy_from_slice(x),
                Some(table) => out
                    .iter_mut()
                    .zip(x)
                    .for_each(|(q, &x)| *q = table[usize::from(x)]),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The rows in registers.

    use std::arch::x86_64::*;

    /// As [`super::Rows`]; the pointers are valid for `n` rows.
    pub(super) struct Rows {
        pub(super) x: *const u8,
        pub(super) x_stride: usize,
        pub(super) out: *mut u8,
        pub(super) out_stride: usize,
        pub(super) row: usize,
        pub(super) n: usize,
    }

    /// The lowest `n` bits, at most 64.
    #[inline(always)]
    fn first(n: usize) -> u64 {
        if n >= 64 { u64::MAX } else { (1 << n) - 1 }
    }

    impl Rows {
        /// # Safety
        /// The machine has AVX-512 BW, and the pointers are valid.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        pub(super) unsafe fn copy_avx512(&self) {
            // SAFETY: the contract above.
            unsafe { self.each(|x| x) }
        }

        /// # Safety
        /// The machine has AVX-512 BW and VBMI, and the pointers are valid.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
        pub(super) unsafe fn map_vbmi(&self, table: &[u8; 256]) {
            // SAFETY: the contract above; the table has four vectors.
            unsafe {
                let part = |i: usize| _mm512_loadu_si512(table.as_ptr().add(64 * i).cast());
                let (t0, t1, t2, t3) = (part(0), part(1), part(2), part(3));
                self.each(|x| {
                    let low = _mm512_permutex2var_epi8(t0, x, t1);
                    let high = _mm512_permutex2var_epi8(t2, x, t3);
                    _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
                });
            }
        }

        /// Every vector of every row; bytes outside a row are neither read nor written.
        ///
        /// # Safety
        /// As [`Rows::copy_avx512`].
        #[inline(always)]
        unsafe fn each(&self, f: impl Fn(__m512i) -> __m512i) {
            // SAFETY: the caller's.
            unsafe {
                let whole = self.row / 64 * 64;
                let tail = first(self.row - whole);
                for r in 0..self.n {
                    let (x, out) = (self.x.add(r * self.x_stride), self.out.add(r * self.out_stride));
                    for i in (0..whole).step_by(64) {
                        _mm512_storeu_si512(out.add(i).cast(), f(_mm512_loadu_si512(x.add(i).cast())));
                    }
                    if tail != 0 {
                        let last = _mm512_maskz_loadu_epi8(tail, x.add(whole).cast());
                        _mm512_mask_storeu_epi8(out.add(whole).cast(), tail, f(last));
                    }
                }
            }
        }

        /// Sixteen parts of the table, each selected by the upper half of the index.
        ///
        /// # Safety
        /// The machine has AVX2, and the pointers are valid.
        #[target_feature(enable = "avx2")]
        pub(super) unsafe fn map_avx2(&self, table: &[u8; 256]) {
            // SAFETY: the contract above; the table has sixteen parts of sixteen bytes.
            unsafe {
                let mut parts = [_mm256_setzero_si256(); 16];
                for (i, part) in parts.iter_mut().enumerate() {
                    *part = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * i).cast()));
                }
                // An index outside its part gets the top bit, which gives 0.
                let (step, outside) = (_mm256_set1_epi8(16), _mm256_set1_epi8(0x70));
                let whole = self.row / 32 * 32;
                for r in 0..self.n {
                    let (x, out) = (self.x.add(r * self.x_stride), self.out.add(r * self.out_stride));
                    for i in (0..whole).step_by(32) {
                        let mut idx = _mm256_loadu_si256(x.add(i).cast());
                        let mut mapped = _mm256_setzero_si256();
                        for part in parts {
                            let chosen = _mm256_shuffle_epi8(part, _mm256_adds_epu8(idx, outside));
                            mapped = _mm256_or_si256(mapped, chosen);
                            idx = _mm256_sub_epi8(idx, step);
                        }
                        _mm256_storeu_si256(out.add(i).cast(), mapped);
                    }
                    for i in whole..self.row {
                        *out.add(i) = table[usize::from(*x.add(i))];
                    }
                }
            }
        }
    }
}

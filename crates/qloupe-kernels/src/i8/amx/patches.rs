//! Copying the activations under a kernel into one piece for every output pixel, cache line by cache line.

use std::arch::x86_64::*;

const LINE_BYTES: usize = 64;

/// A part of a patch that is contiguous in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// From the first pixel of a kernel.
    pub(super) from: usize,
    /// From the first byte of the patch.
    pub(super) to: usize,
    pub(super) length: usize,
}

/// The part of a piece in one cache line of the patch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LinePart {
    /// The bytes of the line.
    mask: u64,
    /// Where the first byte of the line would be, from the first pixel of a kernel.
    from: isize,
}

/// Where patches come from and how they are laid out.
#[derive(Debug)]
pub(super) struct Patches {
    parts: Vec<LinePart>,
    /// The end of the parts of each line.
    ends: Vec<usize>,
}

/// Output pixels and the activations under their kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    /// The first pixel of the first kernel.
    pub(super) x: *const u8,
    /// From an output pixel to the next in the input, and from an output row to the next.
    pub(super) pixel_stride: usize,
    pub(super) row_stride: usize,
    pub(super) n_rows: usize,
    pub(super) width: usize,
}

impl Patches {
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let end = pieces.iter().map(|p| p.to + p.length).max().unwrap_or(0);
        let (mut parts, mut ends) = (Vec::new(), Vec::new());
        for line in (0..end).step_by(LINE_BYTES) {
            for piece in pieces {
                let first = piece.to.max(line);
                let end = (piece.to + piece.length).min(line + LINE_BYTES);
                if first < end {
                    let bytes = u64::MAX >> (LINE_BYTES - (end - first));
                    parts.push(LinePart {
                        mask: bytes << (first - line),
                        from: piece.from as isize + line as isize - piece.to as isize,
                    });
                }
            }
            ends.push(parts.len());
        }
        Self { parts, ends }
    }

    /// Bytes of a patch.
    pub(super) fn bytes(&self) -> usize {
        self.ends.len() * LINE_BYTES
    }

    /// Copies the patches of all pixels, one after the other; bytes between pieces are 0.
    ///
    /// # Safety
    /// The machine has AVX-512 F and BW. The pieces are readable for every pixel; `to` holds all patches and begins at a
    /// cache line.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn copy(&self, from: &Kernels, to: *mut u8) {
        let mut to = to;
        for row in 0..from.n_rows {
            let mut x = from.x.wrapping_add(row * from.row_stride);
            for _ in 0..from.width {
                let mut next = 0;
                for &end in &self.ends {
                    // SAFETY: the caller's; what the masks leave out is not read.
                    unsafe {
                        let mut line = _mm512_setzero_si512();
                        for part in self.parts.get_unchecked(next..end) {
                            line =
                                _mm512_mask_loadu_epi8(line, part.mask, x.wrapping_offset(part.from).cast());
                        }
                        _mm512_store_si512(to.cast(), line);
                    }
                    to = to.wrapping_add(LINE_BYTES);
                    next = end;
                }
                x = x.wrapping_add(from.pixel_stride);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_cut_at_cache_lines() {
        let pieces = [
            Piece {
                from: 100,
                to: 0,
                length: 60,
            },
            Piece {
                from: 500,
                to: 60,
                length: 8,
            },
        ];
        let patches = Patches::new(&pieces);
        assert_eq!(patches.bytes(), 128);
        assert_eq!(patches.ends, [2, 3]);
        let expected = [((1 << 60) - 1, 100), (0xf << 60, 440), (0xf, 504)];
        let expected = expected.map(|(mask, from)| LinePart { mask, from });
        assert_eq!(patches.parts, expected);
    }
}

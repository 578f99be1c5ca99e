//! NCHW to NHWC and back, for elements of any size.

use rayon::prelude::*;

use crate::parallel;

/// Side of the square blocks of a transposition.
const BLOCK: usize = 16;

/// `out[n, h, w, c] = x[n, c, h, w]`, `hw` pixels.
pub fn nchw_to_nhwc<T: Copy + Send + Sync + 'static>(x: &[T], n: usize, c: usize, hw: usize, out: &mut [T]) {
    transpose_images(x, n, c, hw, out);
}

/// `out[n, c, h, w] = x[n, h, w, c]`, `hw` pixels.
pub fn nhwc_to_nchw<T: Copy + Send + Sync + 'static>(x: &[T], n: usize, c: usize, hw: usize, out: &mut [T]) {
    transpose_images(x, n, hw, c, out);
}

/// Transposes `n` matrices `[rows, cols]` into `[cols, rows]`.
fn transpose_images<T: Copy + Send + Sync + 'static>(
    x: &[T],
    n: usize,
    rows: usize,
    cols: usize,
    out: &mut [T],
) {
    assert_eq!(x.len(), n * rows * cols, "length of the input");
    assert_eq!(out.len(), x.len(), "length of the output");
    if x.is_empty() {
        return;
    }
    if rows == 1 || cols == 1 {
        out.copy_from_slice(x);
        return;
    }
    let image = rows * cols;
    if parallel::runs_here(x.len()) {
        for (x, out) in x.chunks_exact(image).zip(out.chunks_exact_mut(image)) {
            transpose(x, rows, cols, 0, out);
        }
    } else {
        let band = BLOCK * (cols / BLOCK / rayon::current_num_threads() / 2).max(1);
        out.par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .for_each(|(out, x)| {
                out.par_chunks_mut(band * rows)
                    .enumerate()
                    .for_each(|(i, out)| transpose(x, rows, cols, i * band, out));
            });
    }
}

/// `out[j, i] = x[i, first + j]` for rows of x that are `cols` apart, as many columns as `out` holds.
pub(crate) fn transpose<T: Copy + 'static>(x: &[T], rows: usize, cols: usize, first: usize, out: &mut [T]) {
    if rows == 3 {
        // The pixels of an image.
        let channel = |i: usize| &x[i * cols + first..][..out.len() / 3];
        let channels = channel(0).iter().zip(channel(1)).zip(channel(2));
        for (out, ((&a, &b), &c)) in out.chunks_exact_mut(3).zip(channels) {
            out.copy_from_slice(&[a, b, c]);
        }
        return;
    }
    let n_out = out.len() / rows;
    for block in (0..n_out).step_by(BLOCK) {
        let block_end = (block + BLOCK).min(n_out);
        for row in (0..rows).step_by(BLOCK) {
            let row_end = (row + BLOCK).min(rows);
            if block_end - block == BLOCK && row_end - row == BLOCK {
                let from = &x[row * cols + first + block..][..(BLOCK - 1) * cols + BLOCK];
                let to = &mut out[block * rows + row..][..(BLOCK - 1) * rows + BLOCK];
                if whole_block(from, cols, to, rows) {
                    continue;
                }
            }
            for j in block..block_end {
                for i in row..row_end {
                    out[j * rows + i] = x[i * cols + first + j];
                }
            }
        }
    }
}

/// Transposes a block in registers; false if there is no kernel for the type on this machine.
#[inline]
fn whole_block<T: Copy + 'static>(from: &[T], from_stride: usize, to: &mut [T], to_stride: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if crate::isa() != crate::Isa::Scalar
        && let Some(block) = crate::layout_avx2::block_of::<T>()
    {
        for i in (0..BLOCK).step_by(block.side) {
            for j in (0..BLOCK).step_by(block.side) {
                let from = from[i * from_stride + j..].as_ptr();
                let to = to[j * to_stride + i..].as_mut_ptr();
                // SAFETY: both slices hold a square of `BLOCK`; every instruction set but `Scalar` has AVX2.
                unsafe { (block.transpose)(from, from_stride, to, to_stride) }
            }
        }
        return true;
    }
    let _ = (from, from_stride, to, to_stride);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_for_odd_shapes() {
        for (n, c, hw) in [
            (1, 3, 5),
            (2, 17, 33),
            (1, 64, 49),
            (3, 1, 7),
            (1, 3, 40_001),
            (2, 300, 170),
        ] {
            let x: Vec<f32> = (0..n * c * hw).map(|i| i as f32).collect();
            let (mut nhwc, mut back) = (x.clone(), x.clone());
            nchw_to_nhwc(&x, n, c, hw, &mut nhwc);
            let wrong = (0..x.len()).find(|&i| {
                let (image, channel, pixel) = (i / (c * hw), i / hw % c, i % hw);
                nhwc[(image * hw + pixel) * c + channel].to_bits() != x[i].to_bits()
            });
            assert_eq!(wrong, None, "{n} {c} {hw}");
            nhwc_to_nchw(&nhwc, n, c, hw, &mut back);
            assert!(back == x, "{n} {c} {hw}");
        }
    }
}

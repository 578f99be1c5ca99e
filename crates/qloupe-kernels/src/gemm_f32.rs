//! Float matrix products: one multiply-add chain over K per output element, starting at the bias.

use rayon::prelude::*;

use crate::chain::Blocks;
#[cfg(target_arch = "x86_64")]
use crate::f32::panels::Panels;
use crate::multiversion::multiversion;
use crate::{Isa, isa, parallel, specification};

/// A product with a constant right-hand matrix, packed once.
#[derive(Clone, Debug)]
pub struct GemmF32 {
    b: Matrix,
    k: usize,
    n: usize,
}

/// Products are not clipped on their own.
#[cfg(target_arch = "x86_64")]
const NO_CLAMP: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

#[derive(Clone, Debug)]
enum Matrix {
    /// For the specification: the matrix and the bias.
    Plain(Vec<f32>, Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Packed(Panels),
}

impl GemmF32 {
    /// Packs `b` of shape `[k, n]` and an optional bias `[n]`.
    pub fn new(b: &[f32], k: usize, n: usize, bias: Option<&[f32]>) -> Self {
        Self::with_isa(isa(), b, k, n, bias)
    }

    /// [`GemmF32::new`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn with_isa(isa: Isa, b: &[f32], k: usize, n: usize, bias: Option<&[f32]>) -> Self {
        assert_eq!(b.len(), k * n, "length of b");
        assert!(bias.is_none_or(|bias| bias.len() == n), "length of the bias");
        let b = Matrix::pack(isa.require(), b, k, n, bias);
        Self { b, k, n }
    }

    /// `out = a * b + bias`, a: `[m, k]`, out: `[m, n]`.
    pub fn run(&self, a: &[f32], m: usize, out: &mut [f32]) {
        assert_eq!(a.len(), m * self.k, "length of a");
        assert_eq!(out.len(), m * self.n, "length of the output");
        match &self.b {
            Matrix::Plain(b, bias) => specification::matmul_f32(a, b, bias, self.k, self.n, out),
            // SAFETY: `out` has `m` rows.
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(panels) => unsafe {
                panels.conv(a, &panels.rows(m), NO_CLAMP, out.as_mut_ptr(), &|_| ());
            },
        }
    }

    /// The number of columns of the packed matrix.
    pub fn n_columns(&self) -> usize {
        self.n
    }

    /// [`GemmF32::run`] into the head of a chain, clipped to `clamp`; the steps follow while the outputs are hot.
    ///
    /// # Safety
    /// The buffers of the chain have `m * n` elements, and nobody else uses them.
    pub(crate) unsafe fn run_into(&self, a: &[f32], m: usize, clamp: (f32, f32), chain: &Blocks<'_>) {
        assert_eq!(a.len(), m * self.k, "length of a");
        // SAFETY: the caller's; every range comes once, with its outputs written.
        unsafe {
            match &self.b {
                Matrix::Plain(b, bias) => {
                    chain.fill(|out| {
                        specification::matmul_f32(a, b, bias, self.k, self.n, out);
                        out.iter_mut().for_each(|v| *v = specification::clip(*v, clamp));
                    });
                    chain.run_all();
                }
                #[cfg(target_arch = "x86_64")]
                Matrix::Packed(panels) => {
                    let after = |range| chain.run(range);
                    panels.conv(a, &panels.rows(m), clamp, chain.head(), &after);
                }
            }
        }
    }
}

impl Matrix {
    fn pack(isa: Isa, b: &[f32], k: usize, n: usize, bias: Option<&[f32]>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(panels) = Panels::of_matrix(isa, b, k, n, bias) {
            return Self::Packed(panels);
        }
        let _ = isa;
        Self::Plain(b.to_vec(), bias.map_or_else(|| vec![0.0; n], <[f32]>::to_vec))
    }
}

/// Up to so many rows, packing a computed matrix costs more than it gains.
const FEW_ROWS: usize = 4;
/// Columns that are summed at once.
const COLUMNS: usize = 64;

multiversion! {
    /// A product with an unpacked right-hand matrix.
    fn few_rows(a: &[f32], b: &[f32], k: usize, n: usize, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(n).enumerate() {
            let a = &a[row * k..][..k];
            let whole = n - n % COLUMNS;
            for first in (0..whole).step_by(COLUMNS) {
                let mut sums = [0.0_f32; COLUMNS];
                for (i, &a) in a.iter().enumerate() {
                    let b: &[f32; COLUMNS] = b[i * n + first..].first_chunk().expect("invariant: a whole chunk");
                    for j in 0..COLUMNS {
                        sums[j] = a.mul_add(b[j], sums[j]);
                    }
                }
                out[first..first + COLUMNS].copy_from_slice(&sums);
            }
            let rest = &mut out[whole..];
            rest.fill(0.0);
            for (i, &a) in a.iter().enumerate() {
                for (sum, &b) in rest.iter_mut().zip(&b[i * n + whole..]) {
                    *sum = a.mul_add(b, *sum);
                }
            }
        }
    }
}

/// `out = a * b` with both matrices computed: a `[m, k]`, b `[k, n]`, out `[m, n]`.
pub fn matmul_f32(a: &[f32], b: &[f32], m: usize, k: usize, n: usize, out: &mut [f32]) {
    batched_matmul_f32(a, b, &[(0, 0)], m, k, n, out);
}

/// Many products: product `i` starts at `offsets[i] = (offset in a, offset in b)`, so that a broadcast operand is not
/// copied; `out` holds the results one after the other.
pub fn batched_matmul_f32(
    a: &[f32],
    b: &[f32],
    offsets: &[(usize, usize)],
    m: usize,
    k: usize,
    n: usize,
    out: &mut [f32],
) {
    assert_eq!(out.len(), offsets.len() * m * n, "length of the output");
    if m * n == 0 {
        return;
    }
    let isa = isa();
    let product = |(out, &(a_offset, b_offset)): (&mut [f32], &(usize, usize))| {
        if m <= FEW_ROWS {
            few_rows(isa, &a[a_offset..][..m * k], &b[b_offset..][..k * n], k, n, out);
            return;
        }
        let product = GemmF32::new(&b[b_offset..][..k * n], k, n, None);
        product.run(&a[a_offset..][..m * k], m, out);
    };
    if parallel::runs_here(out.len() * k) {
        out.chunks_mut(m * n).zip(offsets).for_each(product);
    } else {
        out.par_chunks_mut(m * n).zip(offsets).for_each(product);
    }
}

//! Integer matrix product with a constant s8 right-hand matrix: a 1x1 convolution over rows.

use crate::{ConvGeometry, ConvI8, Epilogue, Isa, QuantizedSlice, QuantizedSliceMut, isa};

/// An integer product with a packed s8 matrix (symmetric: zero point 0).
#[derive(Clone, Debug)]
pub struct GemmI8 {
    conv: ConvI8,
    k: usize,
    n: usize,
}

impl GemmI8 {
    /// Packs `b` of shape `[k, n]` and an optional bias `[n]`.
    pub fn new(b: &[i8], k: usize, n: usize, bias: Option<&[i32]>) -> Self {
        Self::with_isa(isa(), b, k, n, bias)
    }

    /// [`GemmI8::new`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn with_isa(isa: Isa, b: &[i8], k: usize, n: usize, bias: Option<&[i32]>) -> Self {
        assert_eq!(b.len(), k * n, "length of b");
        let transposed: Vec<i8> = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
        Self {
            conv: ConvI8::with_isa(isa, &transposed, bias, n, k, 1, 1, 1),
            k,
            n,
        }
    }

    /// `out = requantize((a - a_zero_point) * b + bias)`, a: `[m, k]`, out: `[m, n]`.
    pub fn run(
        &self,
        a: QuantizedSlice<'_>,
        m: usize,
        a_zero_point: i32,
        epilogue: &Epilogue,
        out: QuantizedSliceMut<'_>,
    ) {
        self.conv.run(a, &self.rows(m), a_zero_point, epilogue, out);
    }

    /// The exact accumulators `[m, n]`.
    pub fn accumulate(&self, a: QuantizedSlice<'_>, m: usize, a_zero_point: i32) -> Vec<i32> {
        self.conv.accumulate(a, &self.rows(m), a_zero_point)
    }

    /// As [`ConvI8::max_abs_accumulator_bound`].
    pub fn max_abs_accumulator_bound(&self) -> i64 {
        self.conv.max_abs_accumulator_bound()
    }

    fn rows(&self, m: usize) -> ConvGeometry {
        ConvGeometry::rows(m, self.k, self.n)
    }
}

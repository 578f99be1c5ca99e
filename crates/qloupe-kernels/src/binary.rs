//! Element-wise functions of two operands: same shape, scalar, or one row over `[.., C]`.

use crate::multiversion::multiversion;
use crate::{isa, parallel};

/// An element-wise function of two operands. A NaN on either side gives NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the ONNX names")]
pub enum BinaryKernel {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// `out[i] = kernel(a[i], b[i])`.
pub fn binary(kernel: BinaryKernel, a: &[f32], b: &[f32], out: &mut [f32]) {
    let isa = isa();
    parallel::zip3_chunks(a, b, out, |a, b, out| match kernel {
        BinaryKernel::Add => pairs(isa, a, b, out, |a, b| a + b),
        BinaryKernel::Sub => pairs(isa, a, b, out, |a, b| a - b),
        BinaryKernel::Mul => pairs(isa, a, b, out, |a, b| a * b),
        BinaryKernel::Div => pairs(isa, a, b, out, |a, b| a / b),
        BinaryKernel::Max => pairs(isa, a, b, out, max),
        BinaryKernel::Min => pairs(isa, a, b, out, min),
    });
}

/// `out[i] = kernel(a[i], b)`.
pub fn binary_scalar(kernel: BinaryKernel, a: &[f32], b: f32, out: &mut [f32]) {
    binary_row(kernel, a, &[b; SCALAR_ROW][..SCALAR_ROW.min(a.len().max(1))], out);
}

/// `out[.., c] = kernel(a[.., c], row[c])`: a channel operand over NHWC activations.
///
/// The last row may be incomplete.
pub fn binary_row(kernel: BinaryKernel, a: &[f32], row: &[f32], out: &mut [f32]) {
    let isa = isa();
    assert!(
        !row.is_empty() || a.is_empty(),
        "an empty row for {} elements",
        a.len()
    );
    parallel::zip_rows(a, row.len(), out, row.len(), |_, a, out| match kernel {
        BinaryKernel::Add => rows(isa, a, row, out, |a, b| a + b),
        BinaryKernel::Sub => rows(isa, a, row, out, |a, b| a - b),
        BinaryKernel::Mul => rows(isa, a, row, out, |a, b| a * b),
        BinaryKernel::Div => rows(isa, a, row, out, |a, b| a / b),
        BinaryKernel::Max => rows(isa, a, row, out, max),
        BinaryKernel::Min => rows(isa, a, row, out, min),
    });
}

/// A scalar operand is a row of this many equal elements.
const SCALAR_ROW: usize = 256;

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

multiversion! {
    fn pairs [F: Fn(f32, f32) -> f32] (a: &[f32], b: &[f32], out: &mut [f32], f: F) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = f(a, b);
        }
    }
}

multiversion! {
    fn rows [F: Fn(f32, f32) -> f32] (a: &[f32], row: &[f32], out: &mut [f32], f: F) {
        for (out, a) in out.chunks_mut(row.len()).zip(a.chunks(row.len())) {
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(row) {
                *out = f(a, b);
            }
        }
    }
}

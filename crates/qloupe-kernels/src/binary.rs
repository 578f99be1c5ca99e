//! Element-wise functions of two operands: same shape, scalar, or one row over `[.., C]`.

use std::mem::MaybeUninit;

use crate::multiversion::multiversion;
use crate::{Isa, isa, parallel};

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

/// Calls an expression with the function of a kernel.
macro_rules! of_kernel {
    ($kernel:expr, $f:ident => $call:expr) => {
        match $kernel {
            BinaryKernel::Add => {
                let $f = |a: f32, b: f32| a + b;
                $call
            }
            BinaryKernel::Sub => {
                let $f = |a: f32, b: f32| a - b;
                $call
            }
            BinaryKernel::Mul => {
                let $f = |a: f32, b: f32| a * b;
                $call
            }
            BinaryKernel::Div => {
                let $f = |a: f32, b: f32| a / b;
                $call
            }
            BinaryKernel::Max => {
                let $f = max;
                $call
            }
            BinaryKernel::Min => {
                let $f = min;
                $call
            }
        }
    };
}

/// `out[i] = kernel(a[i], b[i])`.
pub fn binary(kernel: BinaryKernel, a: &[f32], b: &[f32], out: &mut [f32]) {
    let isa = isa();
    parallel::zip3_chunks(
        a,
        b,
        out,
        |a, b, out| of_kernel!(kernel, f => pairs(isa, a, b, out, f)),
    );
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
    parallel::zip_rows(
        a,
        row.len(),
        out,
        row.len(),
        |_, a, out| of_kernel!(kernel, f => rows(isa, a, row, out, f)),
    );
}

/// `out[i] = kernel(a[i], b[i])`, here and now; every element of `out` is written.
pub(crate) fn binary_block(
    isa: Isa,
    kernel: BinaryKernel,
    a: &[f32],
    b: &[f32],
    out: &mut [MaybeUninit<f32>],
) {
    of_kernel!(kernel, f => fresh_pairs(isa, a, b, out, f));
}

/// `a[i] = kernel(a[i], b[i])`, here and now.
pub(crate) fn binary_block_left(isa: Isa, kernel: BinaryKernel, a: &mut [f32], b: &[f32]) {
    of_kernel!(kernel, f => fold(isa, a, b, f));
}

/// `b[i] = kernel(a[i], b[i])`, here and now.
pub(crate) fn binary_block_right(isa: Isa, kernel: BinaryKernel, a: &[f32], b: &mut [f32]) {
    of_kernel!(kernel, f => fold(isa, b, a, |b, a| f(a, b)));
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

multiversion! {
    fn fresh_pairs [F: Fn(f32, f32) -> f32] (a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>], f: F) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            out.write(f(a, b));
        }
    }
}

multiversion! {
    fn fold [F: Fn(f32, f32) -> f32] (values: &mut [f32], others: &[f32], f: F) {
        for (value, &other) in values.iter_mut().zip(others) {
            *value = f(*value, other);
        }
    }
}

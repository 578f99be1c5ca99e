//! Windows that are sums of cosines: HannWindow, HammingWindow and BlackmanWindow.

use std::f64::consts::TAU;

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::movement::reserved;
use super::parameters::{dtype_attribute, one_integer, open_dim, size};
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// `y[i] = a[0] - a[1] cos(2 pi i / n) + a[2] cos(4 pi i / n)`, where `n` is the size (input 0), or one less when
/// `periodic` is 0.
///
/// # Numerics
/// In f64, rounded once to `output_datatype`.
pub(super) fn cosine_window(ctx: &EvalContext<'_>, a: [f64; 3]) -> Result<Vec<Tensor>, OpError> {
    let dtype = dtype_attribute(ctx.node, "output_datatype")?.unwrap_or(DType::Float32);
    let len = size(one_integer(ctx, 0)?, 0)?;
    let n = if ctx.int("periodic", 1) == 0 {
        len as f64 - 1.0
    } else {
        len as f64
    };
    let mut window = reserved(len)?;
    window.extend((0..len).map(|i| {
        let turn = TAU * i as f64 / n;
        a[0] - a[1] * turn.cos() + a[2] * (2.0 * turn).cos()
    }));
    Ok(vec![cast(&Tensor::vector::<f64>(window), dtype)?])
}

/// The fact of a window.
pub(super) fn infer_window(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let dtype = dtype_attribute(ctx.node, "output_datatype")?.unwrap_or(DType::Float32);
    let len = ctx.elements(0).and_then(|e| e.first()).cloned();
    let len: SymDim = len.unwrap_or_else(|| open_dim(ctx, 0, 0));
    Ok(vec![Fact::new(Some(dtype), Some(vec![len]))])
}

//! Tensors of random numbers: shape and dtype of RandomNormal, RandomUniform and their forms that imitate an input.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::movement::{count, reserved};
use super::normalization::rounded;
use super::parameters::dtype_attribute;
use super::random::Random;
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// What the numbers are drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Distribution {
    /// `mean + scale * normal`.
    Normal,
    /// `low + (high - low) * uniform`.
    Uniform,
}

/// Shape and dtype of the output: of the attributes, or of input 0 where the operator has one.
fn shape_and_dtype(node: &Node) -> Result<(Vec<usize>, DType), OpError> {
    let shape = node
        .ints("shape")
        .ok_or_else(|| OpError::attribute("shape", "absent, expected a list of sizes"))?;
    let sizes: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let sizes = sizes.ok_or_else(|| {
        OpError::attribute(
            "shape",
            format!("negative size, expected at least 0, got {shape:?}"),
        )
    })?;
    Ok((
        sizes,
        require_float(dtype_attribute(node, "dtype")?.unwrap_or(DType::Float32))?,
    ))
}

fn require_float(dtype: DType) -> Result<DType, OpError> {
    if dtype.is_float() {
        return Ok(dtype);
    }
    Err(OpError::attribute(
        "dtype",
        format!("wrong dtype, expected float32, float64, float16 or bfloat16, got {dtype}"),
    ))
}

/// A tensor of the shape and dtype that the attributes say.
pub(super) fn draw(ctx: &EvalContext<'_>, distribution: Distribution) -> Result<Vec<Tensor>, OpError> {
    let (shape, dtype) = shape_and_dtype(ctx.node)?;
    fill(ctx, distribution, &shape, dtype)
}

/// A tensor of the shape of input 0, and of its dtype where the attributes name none.
pub(super) fn draw_like(ctx: &EvalContext<'_>, distribution: Distribution) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let dtype = dtype_attribute(ctx.node, "dtype")?.unwrap_or(x.dtype());
    fill(ctx, distribution, x.shape(), require_float(dtype)?)
}

fn fill(
    ctx: &EvalContext<'_>,
    distribution: Distribution,
    shape: &[usize],
    dtype: DType,
) -> Result<Vec<Tensor>, OpError> {
    let random = Random::of(ctx.node);
    let parameter = |name, default| f64::from(ctx.float(name, default));
    let n = count(shape)?;
    let (mut values, indices) = (reserved(n)?, 0..n);
    match distribution {
        Distribution::Normal => {
            let (mean, scale) = (parameter("mean", 0.0), parameter("scale", 1.0));
            values.extend(indices.map(|i| mean + scale * random.normal(i)));
        }
        Distribution::Uniform => {
            let (low, high) = (parameter("low", 0.0), parameter("high", 1.0));
            values.extend(indices.map(|i| low + (high - low) * random.uniform(i)));
        }
    }
    Ok(vec![rounded(shape, values, dtype)?])
}

/// The fact of [`draw`].
pub(super) fn infer_draw(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let (shape, dtype) = shape_and_dtype(ctx.node)?;
    let dims = shape.into_iter().map(SymDim::from).collect();
    Ok(vec![Fact::new(Some(dtype), Some(dims))])
}

/// The fact of [`draw_like`].
pub(super) fn infer_draw_like(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let dtype = dtype_attribute(ctx.node, "dtype")?.or(x.dtype);
    Ok(vec![Fact::new(dtype, x.shape.clone())])
}

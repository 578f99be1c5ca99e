//! Scales and zero points as inputs of quantization operators.

use qloupe_tensor::{DType, Granularity, QuantParams, SmallFloat, Tensor};

use super::cast::cast;
use super::elementwise::{FLOATS, wrong_dtype};
use crate::{EvalContext, OpError};

/// The scales of an input, as f32.
///
/// # Errors
/// An absent input, a dtype that is not floating-point.
pub(super) fn scales(ctx: &EvalContext<'_>, idx: usize) -> Result<Vec<f32>, OpError> {
    let scale = ctx.require(idx)?;
    if !scale.dtype().is_float() {
        return Err(wrong_dtype(idx, FLOATS, scale.dtype()));
    }
    Ok(cast(scale, DType::Float32)?.into_vec()?)
}

/// The zero points of an optional input, `n` zeros when it is absent.
///
/// # Errors
/// A dtype that does not cast to int32.
pub(super) fn zero_points(ctx: &EvalContext<'_>, idx: usize, n: usize) -> Result<Vec<i32>, OpError> {
    match ctx.input(idx) {
        Some(zero_point) => Ok(cast(zero_point, DType::Int32)?.into_vec()?),
        None => Ok(vec![0; n]),
    }
}

/// The parameters of QuantizeLinear and DequantizeLinear (scale: input 1, zero point: input 2) for a tensor.
///
/// For a `dtype` that holds no integers (floats of 4 and 8 bits) they are those of int32 with zero point 0.
///
/// # Errors
/// Parameters that are not valid or do not fit the shape, an axis outside the rank, a float zero point that is not 0.
pub(super) fn linear_params(
    ctx: &EvalContext<'_>,
    shape: &[usize],
    dtype: DType,
) -> Result<QuantParams, OpError> {
    let scale = scales(ctx, 1)?;
    let zero_point = zero_points(ctx, 2, scale.len())?;
    let dtype = if SmallFloat::of(dtype).is_none() {
        dtype
    } else if zero_point.iter().all(|&z| z == 0) {
        DType::Int32
    } else {
        return Err(OpError::input(
            2,
            format!("zero point is not 0, expected 0 for {dtype}"),
        ));
    };
    let block_size = ctx.int("block_size", 0);
    let granularity = if block_size != 0 {
        let block_size = usize::try_from(block_size).map_err(|_| {
            OpError::attribute("block_size", format!("expected at least 0, got {block_size}"))
        })?;
        let axis = ctx.axis(ctx.int("axis", 1), shape.len())?;
        check_block_shape(ctx.require(1)?.shape(), shape, axis, block_size)?;
        Granularity::PerBlock { axis, block_size }
    } else if scale.len() == 1 {
        Granularity::PerTensor
    } else {
        let axis = ctx.axis(ctx.int("axis", 1), shape.len())?;
        Granularity::PerChannel { axis }
    };
    let params = QuantParams::new(dtype, granularity, scale, zero_point)?;
    params.check_shape(shape)?;
    Ok(params)
}

fn check_block_shape(
    scale: &[usize],
    shape: &[usize],
    axis: usize,
    block_size: usize,
) -> Result<(), OpError> {
    let mut expected = shape.to_vec();
    if let Some(dim) = expected.get_mut(axis) {
        *dim = dim.div_ceil(block_size.max(1));
    }
    if scale == expected {
        return Ok(());
    }
    Err(OpError::input(
        1,
        format!("wrong shape, expected {expected:?} for blocks of {block_size}, got {scale:?}"),
    ))
}

/// One scale and zero point, for operators that take no more.
///
/// # Errors
/// Inputs that are absent, of another dtype or not of one element.
pub(super) fn per_tensor(
    ctx: &EvalContext<'_>,
    scale_idx: usize,
    dtype: DType,
) -> Result<(f32, i32), OpError> {
    let scale = scales(ctx, scale_idx)?;
    let zero_point = zero_points(ctx, scale_idx + 1, 1)?;
    let params = QuantParams::new(dtype, Granularity::PerTensor, scale, zero_point)?;
    Ok((params.scale()[0], params.zero_point()[0]))
}

/// The integers of an 8-bit input minus its zero points: one, or one for each index of `axis`.
///
/// # Errors
/// Another dtype, a number of zero points that does not fit the shape.
pub(super) fn centered(
    ctx: &EvalContext<'_>,
    idx: usize,
    zero_point_idx: usize,
    axis: usize,
) -> Result<Vec<i64>, OpError> {
    let q = ctx.require(idx)?;
    if !matches!(q.dtype(), DType::UInt8 | DType::Int8) {
        return Err(wrong_dtype(idx, "uint8 or int8", q.dtype()));
    }
    let zero_point = zero_points(ctx, zero_point_idx, 1)?;
    let along = q.shape().get(axis).copied().unwrap_or(1);
    if zero_point.len() != 1 && zero_point.len() != along {
        return Err(OpError::input(
            zero_point_idx,
            format!(
                "wrong number of zero points, expected 1 or {along}, got {}",
                zero_point.len()
            ),
        ));
    }
    let inner: usize = q.shape().iter().skip(axis + 1).product();
    let values = cast(q, DType::Int64)?.into_vec::<i64>()?;
    let of = |i: usize| {
        zero_point[if zero_point.len() == 1 {
            0
        } else {
            i / inner % along
        }]
    };
    Ok(values
        .into_iter()
        .enumerate()
        .map(|(i, q)| q - i64::from(of(i)))
        .collect())
}

/// The int32 accumulators of exact sums.
///
/// # Errors
/// A sum that int32 does not hold.
pub(super) fn accumulators(sums: &[i64]) -> Result<Vec<i32>, OpError> {
    let narrow = |(i, &sum): (usize, &i64)| {
        i32::try_from(sum).map_err(|_| {
            OpError::input(
                0,
                format!("accumulator {i} overflows, expected an int32, got {sum}"),
            )
        })
    };
    sums.iter().enumerate().map(narrow).collect()
}

/// A tensor of an 8 or 16-bit dtype from integers in its range.
///
/// # Errors
/// A shape that does not fit.
pub(super) fn narrowed(shape: &[usize], q: Vec<i32>, dtype: DType) -> Result<Tensor, OpError> {
    cast(&Tensor::new(shape, q)?, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accumulator_that_overflows_is_named() {
        assert_eq!(accumulators(&[1, -2]).unwrap(), [1, -2]);
        assert_eq!(
            accumulators(&[0, 1 << 31]).unwrap_err().to_string(),
            "input 0: accumulator 1 overflows, expected an int32, got 2147483648"
        );
    }
}

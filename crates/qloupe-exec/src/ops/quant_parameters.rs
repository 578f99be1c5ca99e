//! Scales and zero points as inputs of quantization operators.

use qloupe_kernels::Epilogue;
use qloupe_tensor::{DType, Granularity, QuantParams, Requantize, SmallFloat, Tensor};

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

/// Scale and zero point of a quantized output or input of 8 bits, whose dtype is that of its zero point; without one it
/// is that of input `like`.
///
/// # Errors
/// As [`per_tensor`].
pub(super) fn params_at(
    ctx: &EvalContext<'_>,
    scale_idx: usize,
    like: usize,
) -> Result<QuantParams, OpError> {
    let dtype = match ctx.input(scale_idx + 1) {
        Some(zero_point) => zero_point.dtype(),
        None => ctx.require(like)?.dtype(),
    };
    if !matches!(dtype, DType::UInt8 | DType::Int8) {
        return Err(wrong_dtype(scale_idx + 1, EIGHT_BITS, dtype));
    }
    let (scale, zero_point) = per_tensor(ctx, scale_idx, dtype)?;
    Ok(QuantParams::per_tensor(dtype, scale, zero_point)?)
}

const EIGHT_BITS: &str = "uint8 or int8";

/// Refuses a tensor that does not hold 8-bit integers.
///
/// # Errors
/// Another dtype.
pub(super) fn require_8_bit(idx: usize, q: &Tensor) -> Result<(), OpError> {
    if matches!(q.dtype(), DType::UInt8 | DType::Int8) {
        return Ok(());
    }
    Err(wrong_dtype(idx, EIGHT_BITS, q.dtype()))
}

/// The zero points of an activation of 8 bits, 0 when the input is absent.
///
/// # Errors
/// Another dtype, a zero point that the dtype does not hold.
pub(super) fn activation_zero_points(
    ctx: &EvalContext<'_>,
    idx: usize,
    activation: &Tensor,
) -> Result<Vec<i32>, OpError> {
    let zero_point = zero_points(ctx, idx, 1)?;
    require_8_bit(0, activation)?;
    let (min, max) = activation.dtype().integer_range().unwrap_or((0, 0));
    match zero_point
        .iter()
        .find(|&&z| i64::from(z) < min || i64::from(z) > max)
    {
        Some(wrong) => Err(OpError::input(
            idx,
            format!(
                "zero point does not fit, expected a value of {}, got {wrong}",
                activation.dtype()
            ),
        )),
        None => Ok(zero_point),
    }
}

/// As [`activation_zero_points`], where there may be only one.
///
/// # Errors
/// As [`activation_zero_points`], or another number of them.
pub(super) fn activation_zero_point(
    ctx: &EvalContext<'_>,
    idx: usize,
    activation: &Tensor,
) -> Result<i32, OpError> {
    match activation_zero_points(ctx, idx, activation)?.as_slice() {
        &[zero_point] => Ok(zero_point),
        several => Err(OpError::input(
            idx,
            format!("wrong number of zero points, expected 1, got {}", several.len()),
        )),
    }
}

/// The 8-bit integers of input `idx` minus their zero points: one, or `n`, of which element `i` takes number
/// `zero_point_of(i)`. No zero point is 0.
///
/// # Errors
/// Another dtype, a number of zero points that does not fit.
pub(super) fn differences(
    idx: usize,
    q: &Tensor,
    (zero_point_idx, zero_point): (usize, Option<&Tensor>),
    n: usize,
    zero_point_of: impl Fn(usize) -> usize,
) -> Result<Vec<i16>, OpError> {
    require_8_bit(idx, q)?;
    let zero_point = match zero_point {
        Some(zero_point) => cast(zero_point, DType::Int16)?.into_vec::<i16>()?,
        None => vec![0],
    };
    let integers = cast(q, DType::Int16)?.into_vec::<i16>()?;
    let fits = |z: &i16| (-128..=255).contains(z);
    if (zero_point.len() != 1 && zero_point.len() != n) || !zero_point.iter().all(fits) {
        return Err(OpError::input(
            zero_point_idx,
            format!(
                "wrong number of zero points, expected 1 or {n}, got {}",
                zero_point.len()
            ),
        ));
    }
    Ok(if let [zero_point] = zero_point.as_slice() {
        integers.into_iter().map(|q| q - zero_point).collect()
    } else {
        let of = |(i, q): (usize, i16)| q - zero_point[zero_point_of(i)];
        integers.into_iter().enumerate().map(of).collect()
    })
}

/// The int32 elements of an input, which must be `n`.
///
/// # Errors
/// Another dtype or number.
pub(super) fn integers(idx: usize, tensor: &Tensor, n: usize) -> Result<&[i32], OpError> {
    let values = tensor
        .as_slice::<i32>()
        .ok_or_else(|| wrong_dtype(idx, DType::Int32, tensor.dtype()))?;
    of_length(idx, values.len(), n)?;
    Ok(values)
}

/// `n` scales of an input that holds one or `n`; one stays one.
///
/// # Errors
/// As [`scales`], or another number of them.
pub(super) fn scales_for(ctx: &EvalContext<'_>, idx: usize, n: usize) -> Result<Vec<f32>, OpError> {
    let scale = scales(ctx, idx)?;
    if scale.len() != 1 {
        of_length(idx, scale.len(), n)?;
    }
    Ok(scale)
}

fn of_length(idx: usize, got: usize, n: usize) -> Result<(), OpError> {
    if got == n {
        return Ok(());
    }
    Err(OpError::input(
        idx,
        format!("wrong number of elements, expected {n}, got {got}"),
    ))
}

/// An exact sum as an int32 accumulator.
///
/// # Errors
/// A sum that int32 does not hold.
pub(super) fn accumulator((idx, sum): (usize, i64)) -> Result<i32, OpError> {
    i32::try_from(sum).map_err(|_| {
        OpError::input(
            0,
            format!("accumulator {idx} overflows, expected an int32, got {sum}"),
        )
    })
}

/// How int32 sums become the 8-bit output whose scale is input `scale_idx`: the multiplier is `real / y_scale` for the
/// real numbers that one step of each sum stands for.
///
/// # Errors
/// As [`per_tensor`]; another dtype.
pub(super) fn requantization(
    ctx: &EvalContext<'_>,
    scale_idx: usize,
    real: impl Iterator<Item = f32>,
) -> Result<(Epilogue, DType), OpError> {
    let output = params_at(ctx, scale_idx, scale_idx + 1)?;
    let ((min, max), scale) = (output.quant_range(), output.scale()[0]);
    let epilogue = Epilogue {
        multiplier: real.map(|real| real / scale).collect(),
        zero_point: output.zero_point()[0],
        min,
        max,
        policy: Requantize::FloatScaleZeroPointAfter,
    };
    Ok((epilogue, output.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accumulator_that_overflows_is_named() {
        assert_eq!(accumulator((0, -2)).unwrap(), -2);
        assert_eq!(
            accumulator((1, 1 << 31)).unwrap_err().to_string(),
            "input 0: accumulator 1 overflows, expected an int32, got 2147483648"
        );
    }
}

//! Quantize, dequantize and fake-quantize: the scalar specification.

use crate::rounding::clip_to_i32;
use crate::{DType, QuantParams, Rounding, Tensor, TensorError, decode_integer};

/// Quantizes a real tensor.
///
/// `q = clip(round(x / scale) + zero_point)`; the division is an f32 division and the clip happens in float.
///
/// # Shapes
/// x: any shape that fits the granularity of `params`; output: the same, of `params.dtype()` (2 to 16 bit, int32).
/// # Edge cases
/// NaN becomes the lowest integer; the caller finds NaN before.
/// # Errors
/// Another dtype than float32, or parameters that do not fit the shape.
/// # Source
/// ONNX QuantizeLinear-13.
/// # Example
/// ```
/// use qloupe_tensor::*;
/// let params = QuantParams::per_tensor(DType::UInt8, 0.5, 10).unwrap();
/// let q = quantize_linear(&Tensor::vector(vec![0.0_f32, 0.25, 0.75, -100.0]), &params, Rounding::TiesEven).unwrap();
/// assert_eq!(q.as_slice::<u8>().unwrap(), [10, 10, 12, 0]);
/// ```
pub fn quantize_linear(x: &Tensor, params: &QuantParams, rounding: Rounding) -> Result<Tensor, TensorError> {
    let values = x.require::<f32>()?;
    params.check_shape(x.shape())?;
    let q = Quantizer::new(params, rounding);
    let of = |i: usize, v: f32| q.quantize(v, params.idx_of(i, x.shape()));
    let integers = values.iter().enumerate().map(|(i, &v)| of(i, v));
    macro_rules! collect {
        ($ty:ty) => {
            Tensor::new(
                x.shape(),
                integers
                    .map(|v| <$ty>::try_from(v).expect("invariant: clipped to the dtype"))
                    .collect::<Vec<_>>(),
            )
        };
    }
    match params.dtype() {
        DType::UInt8 => collect!(u8),
        DType::Int8 => collect!(i8),
        DType::UInt16 => collect!(u16),
        DType::Int16 => collect!(i16),
        DType::Int32 => collect!(i32),
        dtype @ (DType::Int2 | DType::UInt2 | DType::Int4 | DType::UInt4) => {
            let code = |v: i32| v.to_le_bytes()[0];
            Tensor::from_codes(dtype, x.shape(), integers.map(code).collect())
        }
        dtype => Err(TensorError::NotQuantizable { dtype }),
    }
}

/// Dequantizes an integer tensor to float32.
///
/// `x = (q - zero_point) * scale`; the difference is an exact integer.
///
/// # Errors
/// Another dtype than `params.dtype()`, or parameters that do not fit the shape.
/// # Source
/// ONNX DequantizeLinear-13.
pub fn dequantize_linear(q: &Tensor, params: &QuantParams) -> Result<Tensor, TensorError> {
    params.check_shape(q.shape())?;
    if q.dtype() != params.dtype() {
        return Err(TensorError::DType {
            expected: params.dtype(),
            got: q.dtype(),
        });
    }
    let real = |i: usize, v: i32| {
        let idx = params.idx_of(i, q.shape());
        dequantize(v, params.scale()[idx], params.zero_point()[idx])
    };
    macro_rules! collect {
        ($ty:ty) => {
            q.require::<$ty>()?
                .iter()
                .enumerate()
                .map(|(i, &v)| real(i, i32::from(v)))
                .collect()
        };
    }
    let values: Vec<f32> = match q.dtype() {
        DType::UInt8 => collect!(u8),
        DType::Int8 => collect!(i8),
        DType::UInt16 => collect!(u16),
        DType::Int16 => collect!(i16),
        DType::Int32 => collect!(i32),
        dtype => {
            let codes = q.codes().ok_or(TensorError::NotQuantizable { dtype })?;
            let integers = codes.iter().filter_map(|&code| decode_integer(dtype, code));
            integers.enumerate().map(|(i, v)| real(i, i32::from(v))).collect()
        }
    };
    Tensor::new(q.shape(), values)
}

/// Quantizes and dequantizes: the real values that the integers stand for.
///
/// # Errors
/// As [`quantize_linear`].
pub fn fake_quantize_linear(
    x: &Tensor,
    params: &QuantParams,
    rounding: Rounding,
) -> Result<Tensor, TensorError> {
    let shape = x.shape().to_vec();
    let mut values = x.clone().into_vec::<f32>()?;
    fake_quantize_linear_in_place(&mut values, &shape, params, rounding)?;
    Tensor::new(&shape, values)
}

/// [`fake_quantize_linear`] on a buffer of `shape`.
///
/// # Errors
/// Parameters that do not fit the shape.
pub fn fake_quantize_linear_in_place(
    values: &mut [f32],
    shape: &[usize],
    params: &QuantParams,
    rounding: Rounding,
) -> Result<(), TensorError> {
    params.check_shape(shape)?;
    let q = Quantizer::new(params, rounding);
    let run_length = params.granularity().run_length(shape);
    for (run, chunk) in values.chunks_mut(run_length).enumerate() {
        let idx = params.idx_of(run * run_length, shape);
        for v in chunk {
            *v = dequantize(q.quantize(*v, idx), params.scale()[idx], params.zero_point()[idx]);
        }
    }
    Ok(())
}

#[inline]
#[expect(
    clippy::as_conversions,
    reason = "ONNX converts the exact integer difference to float32"
)]
fn dequantize(q: i32, scale: f32, zero_point: i32) -> f32 {
    (i64::from(q) - i64::from(zero_point)) as f32 * scale
}

struct Quantizer<'a> {
    params: &'a QuantParams,
    rounding: Rounding,
    min: f32,
    max: f32,
}

impl<'a> Quantizer<'a> {
    #[expect(
        clippy::as_conversions,
        reason = "the ends of 8 and 16 bit ranges are exact in f32; int32 saturates later"
    )]
    fn new(params: &'a QuantParams, rounding: Rounding) -> Self {
        let (min, max) = params.quant_range();
        Self {
            params,
            rounding,
            min: min as f32,
            max: max as f32,
        }
    }

    #[inline]
    #[expect(
        clippy::as_conversions,
        reason = "a zero point of 8 or 16 bits is exact in f32"
    )]
    fn quantize(&self, x: f32, idx: usize) -> i32 {
        let rounded = self.rounding.round(x / self.params.scale()[idx]);
        clip_to_i32(rounded + self.params.zero_point()[idx] as f32, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_four_and_two_bits_clip_and_come_back() {
        let x = Tensor::vector(vec![-9.0_f32, -1.5, 0.0, 0.9, 3.0, 20.0]);
        let cases = [
            (DType::Int4, 0, [-8.0_f32, -2.0, 0.0, 1.0, 3.0, 7.0]),
            (DType::UInt4, 2, [-2.0, -2.0, 0.0, 1.0, 3.0, 13.0]),
            (DType::Int2, 0, [-2.0, -2.0, 0.0, 1.0, 1.0, 1.0]),
            (DType::UInt2, 1, [-1.0, -1.0, 0.0, 1.0, 2.0, 2.0]),
        ];
        for (dtype, zero_point, expected) in cases {
            let params = QuantParams::per_tensor(dtype, 1.0, zero_point).unwrap();
            let q = quantize_linear(&x, &params, Rounding::TiesEven).unwrap();
            assert_eq!(q.dtype(), dtype);
            let y = dequantize_linear(&q, &params).unwrap();
            assert_eq!(y.as_slice::<f32>().unwrap(), expected, "{dtype}");
        }
    }
}

//! Floats of any width as f32 and back: half types compute in f32 and are rounded once, at the output.

use std::borrow::Cow;

use half::{bf16, f16};
use qloupe_tensor::{DType, Tensor};

use crate::OpError;

/// The elements as f32. float64 is refused: nothing here computes in double precision.
pub(super) fn to_float32(tensor: &Tensor, idx: usize) -> Result<Cow<'_, [f32]>, OpError> {
    if let Some(values) = tensor.as_slice::<f32>() {
        return Ok(Cow::Borrowed(values));
    }
    match tensor.dtype() {
        DType::Float16 | DType::BFloat16 => Ok(Cow::Owned(tensor.to_f32()?.into_vec()?)),
        DType::Float64 => Err(OpError::Unsupported {
            what: format!("input {idx} of type float64"),
            remedy: ": cast it to float32".to_owned(),
        }),
        other => Err(OpError::input(
            idx,
            format!("wrong dtype, expected float32, float16 or bfloat16, got {other}"),
        )),
    }
}

/// A tensor of a float dtype, rounded from f32.
pub(super) fn from_float32(dtype: DType, shape: &[usize], values: Vec<f32>) -> Result<Tensor, OpError> {
    Ok(match dtype {
        DType::Float16 => Tensor::new(shape, values.into_iter().map(f16::from_f32).collect())?,
        DType::BFloat16 => Tensor::new(shape, values.into_iter().map(bf16::from_f32).collect())?,
        _ => Tensor::new(shape, values)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_types_go_through_f32() {
        let x = Tensor::vector(vec![f16::from_f32(0.1)]);
        let values = to_float32(&x, 0).unwrap().into_owned();
        assert_eq!(from_float32(DType::Float16, &[1], values), Ok(x));
        assert_eq!(
            to_float32(&Tensor::scalar(1_f64), 0).unwrap_err().to_string(),
            "input 0 of type float64 is not supported: cast it to float32"
        );
        assert_eq!(
            to_float32(&Tensor::scalar(1_i8), 2).unwrap_err().to_string(),
            "input 2: wrong dtype, expected float32, float16 or bfloat16, got int8"
        );
    }
}

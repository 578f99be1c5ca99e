//! Conversion of numbers to the dtype of an input: exact for integers, else refused.

use half::{bf16, f16};
use qloupe_tensor::{DType, Tensor};

/// A tensor of `dtype`; whole numbers only where it is an integer type.
#[expect(
    clippy::cast_possible_truncation,
    reason = "floats round to nearest as a cast in ONNX does; integers are checked to fit"
)]
pub(crate) fn cast(shape: &[usize], values: Vec<f64>, dtype: DType) -> Result<Tensor, String> {
    /// Beyond it f64 no longer holds every whole number.
    const EXACT: i64 = 1 << 53;
    macro_rules! floats {
        ($convert:expr) => {
            Tensor::new(shape, values.into_iter().map($convert).collect())
        };
    }
    macro_rules! integers {
        ($ty:ty, $min:expr, $max:expr) => {{
            let (min, max): (i64, i64) = ($min, $max);
            let whole = |value: f64| {
                let fits = value.fract() == 0.0 && value >= min as f64 && value <= max as f64;
                fits.then(|| <$ty>::try_from(value as i64).ok())
                    .flatten()
                    .ok_or_else(|| {
                        format!(
                            "{dtype} cannot hold the value {value}, expected whole numbers from {min} to {max}"
                        )
                    })
            };
            Tensor::new(
                shape,
                values.into_iter().map(whole).collect::<Result<Vec<$ty>, String>>()?,
            )
        }};
        ($ty:ty) => {
            integers!($ty, i64::from(<$ty>::MIN), i64::from(<$ty>::MAX))
        };
    }
    let tensor = match dtype {
        DType::Float32 => floats!(|value| value as f32),
        DType::Float64 => Tensor::new(shape, values),
        DType::Float16 => floats!(f16::from_f64),
        DType::BFloat16 => floats!(bf16::from_f64),
        DType::UInt8 => integers!(u8),
        DType::Int8 => integers!(i8),
        DType::UInt16 => integers!(u16),
        DType::Int16 => integers!(i16),
        DType::UInt32 => integers!(u32),
        DType::Int32 => integers!(i32),
        DType::Int64 => integers!(i64, -EXACT, EXACT),
        DType::UInt64 => integers!(u64, 0, EXACT),
        other => return Err(format!("numbers cannot become {other}")),
    };
    tensor.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_convert_exactly_or_not_at_all() {
        let to = |values: &[f64], dtype| cast(&[values.len()], values.to_vec(), dtype);
        assert_eq!(
            to(&[-3.0, 4.0], DType::Int64),
            Ok(Tensor::vector(vec![-3_i64, 4]))
        );
        assert_eq!(
            to(&[0.5], DType::Float16),
            Ok(Tensor::vector(vec![f16::from_f32(0.5)]))
        );
        struct Case {
            value: f64,
            dtype: DType,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { value: -1.0, dtype: DType::UInt8, error: "uint8 cannot hold the value -1, expected whole numbers from 0 to 255" },
            Case { value: 0.25, dtype: DType::Int32, error: "int32 cannot hold the value 0.25, expected whole numbers from -2147483648 to 2147483647" },
            Case { value: f64::NAN, dtype: DType::UInt64, error: "uint64 cannot hold the value NaN, expected whole numbers from 0 to 9007199254740992" },
            Case { value: 1.0, dtype: DType::String, error: "numbers cannot become string" },
        ];
        for Case { value, dtype, error } in cases {
            assert_eq!(to(&[value], dtype).unwrap_err(), error);
        }
    }
}

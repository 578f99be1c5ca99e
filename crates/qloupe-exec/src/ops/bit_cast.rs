//! BitCast: the same bits under another dtype.

use half::{bf16, f16};
use qloupe_tensor::{DType, Data, Tensor};

use super::parameters::dtype_attribute;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y` has the little-endian bytes of `x` and the dtype `to`, whose elements are as wide.
///
/// # Errors
/// Elements of another width, strings.
#[derive(Debug)]
pub(super) struct BitCast;

impl Operator for BitCast {
    fn op_type(&self) -> &'static str {
        "BitCast"
    }

    fn since_version(&self) -> i64 {
        26
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![Fact::new(dtype_attribute(ctx.node, "to")?, x.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let to = dtype_attribute(ctx.node, "to")?
            .ok_or_else(|| OpError::attribute("to", "is absent, expected a dtype"))?;
        Ok(vec![bit_cast(ctx.require(0)?, to)?])
    }
}

fn bit_cast(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    let from = x.dtype();
    if from.size_bits() != to.size_bits() || from == DType::String || to == DType::String {
        return Err(OpError::attribute(
            "to",
            format!(
                "not as wide as {from}, expected {} bits, got {to}",
                from.size_bits()
            ),
        ));
    }
    let bytes = little_endian(x);
    macro_rules! by_dtype {
        ($($variant:ident: $ty:ty),*) => {
            match to {
                $(DType::$variant => {
                    const WIDTH: usize = size_of::<$ty>();
                    let values = bytes.as_chunks::<WIDTH>().0.iter();
                    Tensor::new(x.shape(), values.map(|&b| <$ty>::from_le_bytes(b)).collect())?
                })*
                DType::Bool => Tensor::new(x.shape(), bytes.iter().map(|&b| b != 0).collect())?,
                _ => Tensor::from_opaque(to, x.shape(), bytes)?,
            }
        };
    }
    Ok(by_dtype!(
        Float32: f32, Float64: f64, Float16: f16, BFloat16: bf16, UInt8: u8, Int8: i8, UInt16: u16, Int16: i16,
        UInt32: u32, Int32: i32, UInt64: u64, Int64: i64
    ))
}

/// The packed elements; none for strings.
fn little_endian(x: &Tensor) -> Vec<u8> {
    macro_rules! by_variant {
        ($($variant:ident),*) => {
            match x.data() {
                $(Data::$variant(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),)*
                Data::Bool(values) => values.iter().map(|&v| u8::from(v)).collect(),
                Data::Opaque(_, bytes) => bytes.to_vec(),
                Data::String(_) => Vec::new(),
            }
        };
    }
    by_variant!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay_and_widths_must_agree() {
        let x = Tensor::vector(vec![1.0_f32, -0.0]);
        let bits = Tensor::vector(vec![0x3F80_0000_u32, 0x8000_0000]);
        assert_eq!(bit_cast(&x, DType::UInt32).unwrap(), bits);
        assert_eq!(bit_cast(&bits, DType::Float32).unwrap(), x);
        let nibbles = Tensor::from_opaque(DType::UInt4, &[3], vec![0xF1, 0x02]).unwrap();
        let signed = Tensor::from_opaque(DType::Int4, &[3], vec![0xF1, 0x02]).unwrap();
        assert_eq!(bit_cast(&nibbles, DType::Int4).unwrap(), signed);
        assert_eq!(
            bit_cast(&x, DType::Int64).unwrap_err().to_string(),
            "attribute \"to\": not as wide as float32, expected 32 bits, got int64"
        );
    }
}

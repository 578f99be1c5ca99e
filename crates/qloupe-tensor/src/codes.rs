//! Elements without a Rust type of their own, one code per byte: integers of 2 and 4 bits, floats of 4 and 8 bits.
//!
//! A tensor holds them packed, as ONNX stores them; whoever computes with them or moves them takes them apart here.

use std::borrow::Cow;

use crate::small_float::{decode_power, encode_power};
use crate::{DType, Data, PowerRounding, SmallFloat, Tensor, TensorError};

impl Tensor {
    /// The codes of the elements, one per byte with the unused bits 0; `None` for other dtypes than those of at most
    /// eight bits without a Rust type.
    pub fn codes(&self) -> Option<Cow<'_, [u8]>> {
        let Data::Opaque(dtype, bytes) = self.data() else {
            return None;
        };
        match dtype.size_bits() {
            8 => Some(Cow::Borrowed(bytes.as_slice())),
            bits @ (2 | 4) => Some(Cow::Owned(unpack(bytes, bits, self.len()))),
            _ => None,
        }
    }

    /// A tensor from codes, one per byte; bits that the dtype does not have are ignored.
    ///
    /// # Errors
    /// A number of codes that does not fit the shape; a dtype that has no codes.
    pub fn from_codes(dtype: DType, shape: &[usize], codes: Vec<u8>) -> Result<Self, TensorError> {
        match dtype.size_bits() {
            8 if has_codes(dtype) => Self::from_opaque(dtype, shape, codes),
            bits @ (2 | 4) => {
                let n = crate::n_elements(shape);
                if n != Some(codes.len()) {
                    return Err(TensorError::Length {
                        shape: shape.to_vec(),
                        expected: n.unwrap_or(usize::MAX),
                        got: codes.len(),
                    });
                }
                Self::from_opaque(dtype, shape, pack(&codes, bits))
            }
            _ => Err(TensorError::NotQuantizable { dtype }),
        }
    }
}

/// True for the dtypes whose elements are codes of at most eight bits without a Rust type.
pub fn has_codes(dtype: DType) -> bool {
    is_small_integer(dtype) || dtype == DType::Float8E8M0 || SmallFloat::of(dtype).is_some()
}

fn is_small_integer(dtype: DType) -> bool {
    matches!(dtype, DType::Int2 | DType::UInt2 | DType::Int4 | DType::UInt4)
}

/// The number that a code stands for, exactly; `None` for a dtype without codes.
pub fn decode(dtype: DType, code: u8) -> Option<f64> {
    if let Some(format) = SmallFloat::of(dtype) {
        return Some(format.decode(code));
    }
    if dtype == DType::Float8E8M0 {
        return Some(decode_power(code));
    }
    decode_integer(dtype, code).map(f64::from)
}

/// The integer that a code of 2 or 4 bits stands for; `None` for other dtypes.
pub fn decode_integer(dtype: DType, code: u8) -> Option<i8> {
    if !is_small_integer(dtype) {
        return None;
    }
    let bits = dtype.size_bits();
    let unused = 8 - bits;
    let signed = matches!(dtype, DType::Int2 | DType::Int4);
    let shifted = (code << unused).cast_signed() >> unused;
    Some(if signed {
        shifted
    } else {
        (code & mask(bits)).cast_signed()
    })
}

/// The code of a number in a float format; `None` for other dtypes.
pub fn encode_float(dtype: DType, x: f64, saturate: bool, rounding: PowerRounding) -> Option<u8> {
    if dtype == DType::Float8E8M0 {
        #[expect(clippy::as_conversions, reason = "float8e8m0 is defined on float32")]
        return Some(encode_power(x as f32, rounding, saturate));
    }
    SmallFloat::of(dtype).map(|format| format.encode(x, saturate))
}

fn mask(bits: usize) -> u8 {
    if bits >= 8 { u8::MAX } else { (1 << bits) - 1 }
}

fn unpack(bytes: &[u8], bits: usize, n: usize) -> Vec<u8> {
    let mut codes: Vec<u8> = bytes
        .iter()
        .flat_map(|&byte| {
            (0..8)
                .step_by(bits)
                .map(move |shift| (byte >> shift) & mask(bits))
        })
        .collect();
    codes.truncate(n);
    codes
}

fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let join = |group: &[u8]| {
        group
            .iter()
            .rev()
            .fold(0_u8, |byte, &code| (byte << bits) | (code & mask(bits)))
    };
    codes.chunks(8 / bits).map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_from_the_low_bits_on() {
        let tensor = Tensor::from_codes(DType::Int4, &[3], vec![1, 0xff, 3]).unwrap();
        assert_eq!(
            tensor,
            Tensor::from_opaque(DType::Int4, &[3], vec![0xf1, 0x03]).unwrap()
        );
        assert_eq!(tensor.codes().unwrap().as_ref(), [1, 15, 3]);
        let tensor = Tensor::from_codes(DType::UInt2, &[5], vec![1, 2, 3, 0, 2]).unwrap();
        assert_eq!(
            tensor,
            Tensor::from_opaque(DType::UInt2, &[5], vec![0b0011_1001, 2]).unwrap()
        );
        assert!(Tensor::from_codes(DType::Int4, &[4], vec![1]).is_err());
        assert!(Tensor::from_codes(DType::Float32, &[1], vec![1]).is_err());
        assert!(Tensor::scalar(1_i8).codes().is_none());
    }

    #[test]
    fn integers_have_their_sign() {
        let cases = [
            (DType::Int4, 15, -1),
            (DType::Int4, 7, 7),
            (DType::Int4, 8, -8),
            (DType::UInt4, 15, 15),
            (DType::Int2, 2, -2),
            (DType::Int2, 1, 1),
            (DType::UInt2, 3, 3),
        ];
        for (dtype, code, integer) in cases {
            assert_eq!(decode_integer(dtype, code), Some(integer), "{dtype} {code}");
            assert_eq!(decode(dtype, code), Some(f64::from(integer)), "{dtype} {code}");
        }
        assert_eq!(decode(DType::Float32, 0), None);
    }
}

//! Element types, named and numbered as ONNX `TensorProto.DataType` does.

use std::fmt;

/// An ONNX element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are the ONNX names")]
pub enum DType {
    Float32,
    UInt8,
    Int8,
    UInt16,
    Int16,
    Int32,
    Int64,
    String,
    Bool,
    Float16,
    Float64,
    UInt32,
    UInt64,
    Complex64,
    Complex128,
    BFloat16,
    Float8E4M3FN,
    Float8E4M3FNUZ,
    Float8E5M2,
    Float8E5M2FNUZ,
    UInt4,
    Int4,
    Float4E2M1,
    Float8E8M0,
    UInt2,
    Int2,
}

/// (dtype, ONNX number, name, bits per element; 0 bits: no fixed size).
const TABLE: &[(DType, i32, &str, usize)] = &[
    (DType::Float32, 1, "float32", 32),
    (DType::UInt8, 2, "uint8", 8),
    (DType::Int8, 3, "int8", 8),
    (DType::UInt16, 4, "uint16", 16),
    (DType::Int16, 5, "int16", 16),
    (DType::Int32, 6, "int32", 32),
    (DType::Int64, 7, "int64", 64),
    (DType::String, 8, "string", 0),
    (DType::Bool, 9, "bool", 8),
    (DType::Float16, 10, "float16", 16),
    (DType::Float64, 11, "float64", 64),
    (DType::UInt32, 12, "uint32", 32),
    (DType::UInt64, 13, "uint64", 64),
    (DType::Complex64, 14, "complex64", 64),
    (DType::Complex128, 15, "complex128", 128),
    (DType::BFloat16, 16, "bfloat16", 16),
    (DType::Float8E4M3FN, 17, "float8e4m3fn", 8),
    (DType::Float8E4M3FNUZ, 18, "float8e4m3fnuz", 8),
    (DType::Float8E5M2, 19, "float8e5m2", 8),
    (DType::Float8E5M2FNUZ, 20, "float8e5m2fnuz", 8),
    (DType::UInt4, 21, "uint4", 4),
    (DType::Int4, 22, "int4", 4),
    (DType::Float4E2M1, 23, "float4e2m1", 4),
    (DType::Float8E8M0, 24, "float8e8m0", 8),
    (DType::UInt2, 25, "uint2", 2),
    (DType::Int2, 26, "int2", 2),
];

impl DType {
    /// Every dtype, by ONNX number.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, i32, &'static str, usize) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("invariant: every dtype has a row")
    }

    /// The dtype of an ONNX `TensorProto.DataType` number.
    pub fn from_onnx(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The ONNX `TensorProto.DataType` number.
    pub fn to_onnx(self) -> i32 {
        self.row().1
    }

    /// The dtype of a name such as `float32`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// The lower-case name, `float32`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bits of one element; 0 for strings.
    pub fn size_bits(self) -> usize {
        self.row().3
    }

    /// Bytes of `n_elements` packed elements (sub-byte types are rounded up to a whole byte); `None` on overflow.
    pub fn size_bytes(self, n_elements: usize) -> Option<usize> {
        n_elements
            .checked_mul(self.size_bits())
            .map(|bits| bits.div_ceil(8))
    }

    /// True for the real floating-point types that a network computes with.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::Float32 | Self::Float64 | Self::Float16 | Self::BFloat16
        )
    }

    /// The smallest and the largest representable value of an integer type of at most 32 bits.
    pub fn integer_range(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::Int2 => (-2, 1),
            Self::UInt2 => (0, 3),
            Self::Int4 => (-8, 7),
            Self::UInt4 => (0, 15),
            Self::Int8 => (-128, 127),
            Self::UInt8 => (0, 255),
            Self::Int16 => (-32_768, 32_767),
            Self::UInt16 => (0, 65_535),
            Self::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Self::UInt32 => (0, i64::from(u32::MAX)),
            _ => return None,
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_name_leads_back_to_its_dtype() {
        for dtype in DType::all() {
            assert_eq!(DType::from_onnx(dtype.to_onnx()), Some(dtype), "{dtype}");
            assert_eq!(DType::from_name(dtype.name()), Some(dtype), "{dtype}");
        }
        assert_eq!(DType::from_onnx(0), None);
    }

    #[test]
    fn sub_byte_types_round_up_to_bytes() {
        assert_eq!(DType::Int4.size_bytes(3), Some(2));
        assert_eq!(DType::Float32.size_bytes(usize::MAX), None);
    }
}

//! The elements of a stored tensor: which field holds them, how many there must be, and how they become a `Tensor`.

use std::borrow::Cow;

use half::{bf16, f16};
use qloupe_tensor::{DType, Tensor, TensorError};

use crate::OnnxErrorKind;
use crate::place::Place;
use crate::wire_reader::{Field, Fields};

/// A field of `TensorProto` with typed elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypedField {
    /// The field number.
    pub(crate) number: u32,
    /// The field name.
    pub(crate) name: &'static str,
}

const FLOAT_DATA: TypedField = TypedField {
    number: 4,
    name: "float_data",
};
const INT32_DATA: TypedField = TypedField {
    number: 5,
    name: "int32_data",
};
pub(crate) const STRING_DATA: TypedField = TypedField {
    number: 6,
    name: "string_data",
};
const INT64_DATA: TypedField = TypedField {
    number: 7,
    name: "int64_data",
};
const DOUBLE_DATA: TypedField = TypedField {
    number: 10,
    name: "double_data",
};
const UINT64_DATA: TypedField = TypedField {
    number: 11,
    name: "uint64_data",
};

impl TypedField {
    /// The field that holds elements of a dtype.
    pub(crate) fn of(dtype: DType) -> Self {
        match dtype {
            DType::Float32 | DType::Complex64 => FLOAT_DATA,
            DType::Float64 | DType::Complex128 => DOUBLE_DATA,
            DType::Int64 => INT64_DATA,
            DType::UInt32 | DType::UInt64 => UINT64_DATA,
            DType::String => STRING_DATA,
            _ => INT32_DATA,
        }
    }

    /// The number of entries that `n_elements` elements take; `None` on overflow.
    ///
    /// A complex number takes two entries; an entry of `int32_data` holds one byte of packed sub-byte elements.
    pub(crate) fn n_entries(dtype: DType, n_elements: usize) -> Option<usize> {
        match dtype {
            DType::Complex64 | DType::Complex128 => n_elements.checked_mul(2),
            _ if (1..8).contains(&dtype.size_bits()) => dtype.size_bytes(n_elements),
            _ => Some(n_elements),
        }
    }

    /// The number of entries in one occurrence of the field.
    pub(crate) fn count(self, field: &Field<'_>, place: &Place<'_>) -> Result<usize, OnnxErrorKind> {
        Ok(match self {
            FLOAT_DATA => field.fixed_bytes::<4>(place)?.len(),
            DOUBLE_DATA => field.fixed_bytes::<8>(place)?.len(),
            STRING_DATA => field.payload(place).map(|_| 1)?,
            _ => {
                let mut n_entries = 0;
                field.each_varint(place, |_| n_entries += 1)?;
                n_entries
            }
        })
    }
}

/// The typed elements of a `TensorProto` message, as `raw_data` would have them.
pub(crate) fn typed_to_raw(
    dtype: DType,
    fields: Fields<'_>,
    size_bytes: usize,
) -> Result<Vec<u8>, OnnxErrorKind> {
    let source = TypedField::of(dtype);
    let root = Place::root("tensor");
    let place = root.field(source.name);
    let mut raw = Vec::with_capacity(size_bytes.min(fields.rest().len().saturating_mul(8)));
    // A sub-byte entry is one byte of packed elements.
    let width = dtype.size_bits().div_ceil(8);
    let mut fields = fields;
    while let Some(field) = fields.next(&root)? {
        if field.number != source.number {
            continue;
        }
        match source {
            FLOAT_DATA => raw.extend_from_slice(field.fixed_bytes::<4>(&place)?.as_flattened()),
            DOUBLE_DATA => raw.extend_from_slice(field.fixed_bytes::<8>(&place)?.as_flattened()),
            _ => {
                let mut misfit = None;
                field.each_varint(&place, |value| {
                    if !fits(value, width) {
                        misfit = Some(value.cast_signed());
                    }
                    raw.extend_from_slice(&value.to_le_bytes()[..width]);
                })?;
                if let Some(value) = misfit {
                    return Err(field.malformed(&place, format!("{value} is not a value of {dtype}")));
                }
            }
        }
    }
    Ok(raw)
}

/// True when a varint is a signed or an unsigned integer of `width` bytes. Both are in use: `int8` -1 is written as
/// -1, the bits of a `float16` as an unsigned integer.
fn fits(value: u64, width: usize) -> bool {
    let bits = u32::try_from(width * 8).unwrap_or(64);
    let signed = value.cast_signed() >> (bits - 1);
    value.checked_shr(bits).unwrap_or(0) == 0 || signed == -1
}

/// The strings of a `TensorProto` message.
pub(crate) fn strings(fields: Fields<'_>) -> Result<Vec<String>, OnnxErrorKind> {
    let root = Place::root("tensor");
    let mut strings = Vec::new();
    let mut fields = fields;
    while let Some(field) = fields.next(&root)? {
        if field.number == STRING_DATA.number {
            strings.push(field.string(&root.item(STRING_DATA.name, strings.len()))?);
        }
    }
    Ok(strings)
}

/// Little-endian bytes as a tensor.
pub(crate) fn from_raw(dtype: DType, shape: &[usize], raw: &[u8]) -> Result<Tensor, TensorError> {
    /// Elements of `N` bytes; bytes that make no whole element are left to the check of the length.
    fn numbers<const N: usize, T>(raw: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
    }
    match dtype {
        DType::Float32 => Tensor::new(shape, numbers(raw, f32::from_le_bytes)),
        DType::Float64 => Tensor::new(shape, numbers(raw, f64::from_le_bytes)),
        DType::Float16 => Tensor::new(shape, numbers(raw, f16::from_le_bytes)),
        DType::BFloat16 => Tensor::new(shape, numbers(raw, bf16::from_le_bytes)),
        DType::UInt8 => Tensor::new(shape, raw.to_vec()),
        DType::Int8 => Tensor::new(shape, numbers(raw, i8::from_le_bytes)),
        DType::UInt16 => Tensor::new(shape, numbers(raw, u16::from_le_bytes)),
        DType::Int16 => Tensor::new(shape, numbers(raw, i16::from_le_bytes)),
        DType::UInt32 => Tensor::new(shape, numbers(raw, u32::from_le_bytes)),
        DType::Int32 => Tensor::new(shape, numbers(raw, i32::from_le_bytes)),
        DType::UInt64 => Tensor::new(shape, numbers(raw, u64::from_le_bytes)),
        DType::Int64 => Tensor::new(shape, numbers(raw, i64::from_le_bytes)),
        DType::Bool => Tensor::new(shape, raw.iter().map(|&byte| byte != 0).collect()),
        _ => Tensor::from_opaque(dtype, shape, raw.to_vec()),
    }
}

/// A tensor as little-endian bytes; `None` for strings.
pub(crate) fn to_raw(tensor: &Tensor) -> Option<Cow<'_, [u8]>> {
    use qloupe_tensor::Data;
    fn bytes<const N: usize, T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Cow<'static, [u8]> {
        Cow::Owned(values.iter().flat_map(|&value| bytes(value)).collect())
    }
    Some(match tensor.data() {
        Data::Float32(v) => bytes(v, f32::to_le_bytes),
        Data::Float64(v) => bytes(v, f64::to_le_bytes),
        Data::Float16(v) => bytes(v, f16::to_le_bytes),
        Data::BFloat16(v) => bytes(v, bf16::to_le_bytes),
        Data::UInt8(v) => Cow::Borrowed(v),
        Data::Int8(v) => bytes(v, i8::to_le_bytes),
        Data::UInt16(v) => bytes(v, u16::to_le_bytes),
        Data::Int16(v) => bytes(v, i16::to_le_bytes),
        Data::UInt32(v) => bytes(v, u32::to_le_bytes),
        Data::Int32(v) => bytes(v, i32::to_le_bytes),
        Data::UInt64(v) => bytes(v, u64::to_le_bytes),
        Data::Int64(v) => bytes(v, i64::to_le_bytes),
        Data::Bool(v) => bytes(v, |flag| [u8::from(flag)]),
        Data::Opaque(_, v) => Cow::Borrowed(v),
        Data::String(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_fit_signed_or_unsigned() {
        struct Case {
            value: i64,
            width: usize,
            fits: bool,
        }
        let cases = [
            (-1, 1, true),
            (-128, 1, true),
            (-129, 1, false),
            (255, 1, true),
            (256, 1, false),
            (0xffff, 2, true),
            (0x1_0000, 2, false),
            (i64::from(i32::MIN), 4, true),
            (i64::from(i32::MIN) - 1, 4, false),
            (i64::MIN, 8, true),
            (i64::MAX, 8, true),
        ]
        .map(|(value, width, fits)| Case { value, width, fits });
        for case in cases {
            assert_eq!(
                fits(case.value.cast_unsigned(), case.width),
                case.fits,
                "{} in {} bytes",
                case.value,
                case.width
            );
        }
    }

    #[test]
    fn raw_bytes_lead_back_to_the_tensor() {
        for dtype in DType::all().filter(|d| *d != DType::String) {
            let raw: Vec<u8> = (0..dtype.size_bytes(3).unwrap())
                .map(|i| u8::try_from(i % 2).unwrap())
                .collect();
            let tensor = from_raw(dtype, &[3], &raw).unwrap();
            assert_eq!(tensor.dtype(), dtype);
            assert_eq!(to_raw(&tensor).unwrap(), raw, "{dtype}");
            assert!(from_raw(dtype, &[9], &raw).is_err(), "{dtype}");
        }
    }
}

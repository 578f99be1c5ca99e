//! Tensors from and to bytes of either byte order, of row-major or column-major order.

use half::{bf16, f16};
use qloupe_tensor::{DType, Data, Tensor, TensorError, n_elements};

/// How the bytes of an array are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByteLayout {
    pub(super) big_endian: bool,
    /// Column-major: the first axis varies fastest.
    pub(super) fortran_order: bool,
}

/// A tensor of the bytes, which must be as many as shape and dtype ask for.
pub(super) fn tensor_from_bytes(
    dtype: DType,
    shape: &[usize],
    mut bytes: Vec<u8>,
    layout: ByteLayout,
) -> Result<Tensor, TensorError> {
    let size = dtype.size_bits() / 8;
    if layout.fortran_order {
        bytes = to_row_major(&bytes, shape, size);
    }
    macro_rules! elements {
        ($ty:ty) => {{
            let of = |chunk: &[u8]| {
                let chunk = chunk
                    .try_into()
                    .expect("invariant: chunks_exact gives whole elements");
                if layout.big_endian {
                    <$ty>::from_be_bytes(chunk)
                } else {
                    <$ty>::from_le_bytes(chunk)
                }
            };
            Tensor::new(shape, bytes.chunks_exact(size_of::<$ty>()).map(of).collect())
        }};
    }
    match dtype {
        DType::Float32 => elements!(f32),
        DType::Float64 => elements!(f64),
        DType::Float16 => elements!(f16),
        DType::BFloat16 => elements!(bf16),
        DType::UInt8 => Tensor::new(shape, bytes),
        DType::Int8 => elements!(i8),
        DType::UInt16 => elements!(u16),
        DType::Int16 => elements!(i16),
        DType::UInt32 => elements!(u32),
        DType::Int32 => elements!(i32),
        DType::UInt64 => elements!(u64),
        DType::Int64 => elements!(i64),
        DType::Bool => Tensor::new(shape, bytes.iter().map(|&byte| byte != 0).collect()),
        DType::Complex64 | DType::Complex128 if layout.big_endian => {
            bytes.chunks_exact_mut(size / 2).for_each(<[u8]>::reverse);
            Tensor::from_opaque(dtype, shape, bytes)
        }
        dtype => Tensor::from_opaque(dtype, shape, bytes),
    }
}

/// The little-endian bytes of a tensor; `None` for strings.
pub(super) fn bytes_of(tensor: &Tensor) -> Option<Vec<u8>> {
    macro_rules! bytes {
        ($values:expr) => {
            little_endian($values, |v| v.to_le_bytes())
        };
    }
    Some(match tensor.data() {
        Data::Float32(v) => bytes!(v),
        Data::Float64(v) => bytes!(v),
        Data::Float16(v) => bytes!(v),
        Data::BFloat16(v) => bytes!(v),
        Data::UInt8(v) => v.to_vec(),
        Data::Int8(v) => bytes!(v),
        Data::UInt16(v) => bytes!(v),
        Data::Int16(v) => bytes!(v),
        Data::UInt32(v) => bytes!(v),
        Data::Int32(v) => bytes!(v),
        Data::UInt64(v) => bytes!(v),
        Data::Int64(v) => bytes!(v),
        Data::Bool(v) => v.iter().map(|&b| u8::from(b)).collect(),
        Data::Opaque(_, bytes) => bytes.to_vec(),
        Data::String(_) => return None,
    })
}

/// Elements one after the other; a loop of copies of known size, which is as fast as memory.
fn little_endian<T: Copy, const N: usize>(values: &[T], bytes_of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (target, &value) in bytes.chunks_exact_mut(N).zip(values) {
        target.copy_from_slice(&bytes_of(value));
    }
    bytes
}

fn to_row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let n = n_elements(shape).unwrap_or(0);
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &dim in shape {
        strides.push(stride);
        stride *= dim;
    }
    let mut row_major = Vec::with_capacity(bytes.len());
    for element in 0..n {
        let (mut rest, mut start) = (element, 0);
        for (&dim, &stride) in shape.iter().zip(&strides).rev() {
            start += rest % dim * stride;
            rest /= dim;
        }
        row_major.extend_from_slice(&bytes[start..start + size]);
    }
    row_major
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_major_big_endian_bytes_become_row_major_elements() {
        let layout = ByteLayout {
            big_endian: true,
            fortran_order: true,
        };
        let bytes = [1_i16, 4, 2, 5, 3, 6]
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect();
        let tensor = tensor_from_bytes(DType::Int16, &[2, 3], bytes, layout).unwrap();
        assert_eq!(tensor, Tensor::new(&[2, 3], vec![1_i16, 2, 3, 4, 5, 6]).unwrap());
    }

    #[test]
    fn big_endian_complex_numbers_turn_by_halves() {
        let layout = ByteLayout {
            big_endian: true,
            ..ByteLayout::default()
        };
        let bytes = [1_f32, 2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let tensor = tensor_from_bytes(DType::Complex64, &[1], bytes, layout).unwrap();
        let expected: Vec<u8> = [1_f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(bytes_of(&tensor).unwrap(), expected);
    }
}

//! A dense tensor: a shape and a shared, typed buffer in row-major order.

use std::sync::Arc;

use half::{bf16, f16};

use crate::{DType, Element, TensorError, decode};

/// The elements of a tensor, shared until they are written.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the ONNX names")]
pub enum Data {
    Float32(Arc<Vec<f32>>),
    Float64(Arc<Vec<f64>>),
    Float16(Arc<Vec<f16>>),
    BFloat16(Arc<Vec<bf16>>),
    UInt8(Arc<Vec<u8>>),
    Int8(Arc<Vec<i8>>),
    UInt16(Arc<Vec<u16>>),
    Int16(Arc<Vec<i16>>),
    UInt32(Arc<Vec<u32>>),
    Int32(Arc<Vec<i32>>),
    UInt64(Arc<Vec<u64>>),
    Int64(Arc<Vec<i64>>),
    Bool(Arc<Vec<bool>>),
    String(Arc<Vec<String>>),
    /// Types without a Rust type (complex, float8, sub-byte): little-endian packed bytes, see [`Tensor::codes`].
    Opaque(DType, Arc<Vec<u8>>),
}

/// Calls a block with the shared vector of every variant that has a Rust element type.
macro_rules! each_element {
    ($data:expr, $values:ident => $body:expr, else $other:expr) => {
        match $data {
            Data::Float32($values) => $body,
            Data::Float64($values) => $body,
            Data::Float16($values) => $body,
            Data::BFloat16($values) => $body,
            Data::UInt8($values) => $body,
            Data::Int8($values) => $body,
            Data::UInt16($values) => $body,
            Data::Int16($values) => $body,
            Data::UInt32($values) => $body,
            Data::Int32($values) => $body,
            Data::UInt64($values) => $body,
            Data::Int64($values) => $body,
            Data::Bool($values) => $body,
            _ => $other,
        }
    };
}

/// The number of elements of a shape; `None` when the product of its dimensions overflows. A dimension of 0 does not hide
/// the others: the product of some of them never overflows either.
pub fn n_elements(shape: &[usize]) -> Option<usize> {
    let nonzero = shape.iter().filter(|&&dim| dim != 0);
    let product = nonzero.copied().try_fold(1_usize, usize::checked_mul)?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// Dimensions, in place up to the ranks that are common: a small network makes and clones thousands of tensors in a run.
#[derive(Clone, Debug)]
enum Shape {
    Few { rank: usize, dims: [usize; Shape::FEW] },
    Many(Box<[usize]>),
}

impl Shape {
    const FEW: usize = 6;

    fn new(shape: &[usize]) -> Self {
        if shape.len() > Self::FEW {
            return Self::Many(shape.into());
        }
        let mut dims = [0; Self::FEW];
        for (own, &dim) in dims.iter_mut().zip(shape) {
            *own = dim;
        }
        Self::Few {
            rank: shape.len(),
            dims,
        }
    }

    fn as_slice(&self) -> &[usize] {
        match self {
            Self::Few { rank, dims } => &dims[..*rank],
            Self::Many(dims) => dims,
        }
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

/// A dense tensor in row-major order. Cloning shares the elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor of `shape` over `values` in row-major order.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the number of values does not fit the shape.
    pub fn new<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Self, TensorError> {
        check_length(shape, values.len())?;
        Ok(Self {
            shape: Shape::new(shape),
            data: T::wrap(values),
        })
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the number of values does not fit the shape.
    pub fn from_strings(shape: &[usize], values: Vec<String>) -> Result<Self, TensorError> {
        check_length(shape, values.len())?;
        Ok(Self {
            shape: Shape::new(shape),
            data: Data::String(Arc::new(values)),
        })
    }

    /// A tensor of packed little-endian bytes, for the dtypes without a Rust element type.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the number of bytes does not fit shape and dtype.
    pub fn from_opaque(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<Self, TensorError> {
        let n = n_elements(shape).ok_or_else(|| TensorError::Overflow {
            shape: shape.to_vec(),
        })?;
        let expected = dtype.size_bytes(n).ok_or_else(|| TensorError::Overflow {
            shape: shape.to_vec(),
        })?;
        if bytes.len() != expected {
            return Err(TensorError::Length {
                shape: shape.to_vec(),
                expected,
                got: bytes.len(),
            });
        }
        Ok(Self {
            shape: Shape::new(shape),
            data: Data::Opaque(dtype, Arc::new(bytes)),
        })
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self {
            shape: Shape::new(&[]),
            data: T::wrap(vec![value]),
        }
    }

    /// A tensor of rank 1.
    pub fn vector<T: Element>(values: Vec<T>) -> Self {
        Self {
            shape: Shape::new(&[values.len()]),
            data: T::wrap(values),
        }
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        self.shape.as_slice()
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// True when a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::String(_) => DType::String,
            Data::Opaque(dtype, _) => *dtype,
            data => {
                each_element!(data, values => dtype_of(values), else unreachable!("invariant: handled above"))
            }
        }
    }

    /// Bytes that the elements take.
    pub fn size_bytes(&self) -> usize {
        match &self.data {
            Data::String(values) => values.iter().map(String::len).sum(),
            Data::Opaque(_, bytes) => bytes.len(),
            data => {
                each_element!(data, values => std::mem::size_of_val(values.as_slice()), else unreachable!("invariant: handled above"))
            }
        }
    }

    /// True when both hold the same elements in memory, once.
    pub fn shares_elements(&self, other: &Self) -> bool {
        self.elements_address() == other.elements_address()
    }

    fn elements_address(&self) -> *const () {
        match &self.data {
            Data::String(values) => values.as_ptr().cast(),
            Data::Opaque(_, bytes) => bytes.as_ptr().cast(),
            data => {
                each_element!(data, values => values.as_ptr().cast(), else unreachable!("invariant: handled above"))
            }
        }
    }

    /// The elements as a slice, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::peek(&self.data).map(|values| values.as_slice())
    }

    /// The elements as a slice of `T`.
    ///
    /// # Errors
    /// [`TensorError::DType`] when they are of another type.
    pub fn require<T: Element>(&self) -> Result<&[T], TensorError> {
        self.as_slice().ok_or_else(|| TensorError::DType {
            expected: T::DTYPE,
            got: self.dtype(),
        })
    }

    /// The elements as strings, if they are strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        if let Data::String(values) = &self.data {
            Some(values)
        } else {
            None
        }
    }

    /// Takes the elements out, copying only when they are shared.
    ///
    /// # Errors
    /// [`TensorError::DType`] when they are of another type than `T`.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>, TensorError> {
        let got = self.dtype();
        T::take(self.data)
            .map(Arc::unwrap_or_clone)
            .ok_or(TensorError::DType {
                expected: T::DTYPE,
                got,
            })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the number of elements differs.
    pub fn reshape(mut self, shape: &[usize]) -> Result<Self, TensorError> {
        check_length(shape, self.len())?;
        self.shape = Shape::new(shape);
        Ok(self)
    }

    /// The elements converted to f64, for types that have a numeric meaning; `bool` becomes 0 and 1.
    ///
    /// # Errors
    /// [`TensorError::Cast`] for strings and complex types.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>, TensorError> {
        Ok(match &self.data {
            Data::Float32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Float64(v) => v.to_vec(),
            Data::Float16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::BFloat16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::UInt8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Int8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::UInt16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Int16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::UInt32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Int32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            #[expect(
                clippy::as_conversions,
                reason = "rounds to the nearest f64, as a cast in ONNX does"
            )]
            Data::UInt64(v) => v.iter().map(|&x| x as f64).collect(),
            #[expect(
                clippy::as_conversions,
                reason = "rounds to the nearest f64, as a cast in ONNX does"
            )]
            Data::Int64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
            Data::String(_) | Data::Opaque(..) => {
                let dtype = self.dtype();
                let codes = self.codes().ok_or(TensorError::Cast {
                    from: dtype,
                    to: DType::Float64,
                })?;
                codes.iter().filter_map(|&code| decode(dtype, code)).collect()
            }
        })
    }

    /// The elements converted to f32 (shared when they are f32 already).
    ///
    /// # Errors
    /// [`TensorError::Cast`] for strings and complex types.
    pub fn to_f32(&self) -> Result<Self, TensorError> {
        if self.dtype() == DType::Float32 {
            return Ok(self.clone());
        }
        #[expect(
            clippy::as_conversions,
            reason = "rounds to the nearest f32, as a cast in ONNX does"
        )]
        let values = self.to_f64_vec()?.into_iter().map(|x| x as f32).collect();
        Self::new(self.shape(), values)
    }
}

fn dtype_of<T: Element>(_: &Arc<Vec<T>>) -> DType {
    T::DTYPE
}

fn check_length(shape: &[usize], got: usize) -> Result<(), TensorError> {
    let expected = n_elements(shape).ok_or_else(|| TensorError::Overflow {
        shape: shape.to_vec(),
    })?;
    if expected == got {
        Ok(())
    } else {
        Err(TensorError::Length {
            shape: shape.to_vec(),
            expected,
            got,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_must_fit_the_shape() {
        let error = Tensor::new(&[2, 3], vec![0_f32; 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "number of elements does not fit shape [2, 3], expected 6, got 5"
        );
        assert_eq!(
            Tensor::new(&[usize::MAX, 2], vec![0_u8]).unwrap_err().to_string(),
            format!("shape [{}, 2] has more elements than memory can hold", usize::MAX)
        );
    }

    #[test]
    fn the_order_of_dimensions_does_not_matter_for_overflow() {
        let large = 1 << 40;
        assert_eq!(n_elements(&[2, 0, 3]), Some(0));
        assert_eq!(n_elements(&[0, large]), Some(0));
        assert_eq!(n_elements(&[0, large, large]), None);
        assert_eq!(n_elements(&[large, large, 0]), None);
        assert_eq!(n_elements(&[]), Some(1));
    }

    #[test]
    fn another_dtype_is_named() {
        let error = Tensor::scalar(1_i64).require::<f32>().unwrap_err();
        assert_eq!(error.to_string(), "wrong dtype, expected float32, got int64");
    }

    #[test]
    fn clones_share_and_into_vec_does_not_copy_a_sole_owner() {
        let tensor = Tensor::vector(vec![1_i32, 2, 3]);
        let address = tensor.as_slice::<i32>().unwrap().as_ptr();
        assert_eq!(tensor.clone().as_slice::<i32>().unwrap().as_ptr(), address);
        let values = tensor.into_vec::<i32>().unwrap();
        assert_eq!(values.as_ptr(), address);
    }
}

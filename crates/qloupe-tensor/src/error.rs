//! What can be wrong with a tensor or with quantization parameters.

use crate::{DType, Granularity};

/// An error of tensor construction, access or quantization parameters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements does not fit the shape.
    #[error("number of elements does not fit shape {shape:?}, expected {expected}, got {got}")]
    Length {
        /// The shape that was asked for.
        shape: Vec<usize>,
        /// The number of elements of that shape.
        expected: usize,
        /// The number of elements given.
        got: usize,
    },
    /// The product of the dimensions does not fit in memory.
    #[error("shape {shape:?} has more elements than memory can hold")]
    Overflow {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The tensor has another dtype.
    #[error("wrong dtype, expected {expected}, got {got}")]
    DType {
        /// The dtype that was asked for.
        expected: DType,
        /// The dtype of the tensor.
        got: DType,
    },
    /// There is no conversion between two dtypes.
    #[error("cannot convert {from} to {to}")]
    Cast {
        /// The dtype of the tensor.
        from: DType,
        /// The dtype that was asked for.
        to: DType,
    },
    /// A scale is zero, negative, infinite or NaN.
    #[error("scale {idx} is {value}, expected a positive finite number")]
    Scale {
        /// Which scale.
        idx: usize,
        /// Its value.
        value: f32,
    },
    /// A zero point does not fit the quantized dtype.
    #[error("zero_point {idx} is {value}, expected a value of {dtype}")]
    ZeroPoint {
        /// Which zero point.
        idx: usize,
        /// Its value.
        value: i32,
        /// The quantized dtype.
        dtype: DType,
    },
    /// The numbers of scales and zero points differ, or do not fit the granularity.
    #[error("{n_scales} scales and {n_zero_points} zero points do not fit {granularity}")]
    ParamsLength {
        /// Number of scales.
        n_scales: usize,
        /// Number of zero points.
        n_zero_points: usize,
        /// The granularity.
        granularity: Granularity,
    },
    /// The granularity does not fit the tensor.
    #[error("{granularity} with {n_scales} scales does not fit shape {shape:?}")]
    ParamsShape {
        /// Number of scales.
        n_scales: usize,
        /// The granularity.
        granularity: Granularity,
        /// The shape of the tensor.
        shape: Vec<usize>,
    },
    /// The dtype cannot hold quantized values.
    #[error("{dtype} cannot hold quantized values, expected an integer type of at most 32 bits")]
    NotQuantizable {
        /// The dtype.
        dtype: DType,
    },
}

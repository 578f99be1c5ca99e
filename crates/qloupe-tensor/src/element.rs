//! The Rust types that stand for the ONNX dtypes we compute with.

use std::sync::Arc;

use half::{bf16, f16};

use crate::{DType, Data};

/// A Rust type that is the element of a [`crate::Tensor`].
pub trait Element: Copy + Default + PartialEq + Send + Sync + std::fmt::Debug + 'static {
    /// The dtype of this element.
    const DTYPE: DType;
    /// Wraps a vector.
    fn wrap(values: Vec<Self>) -> Data;
    /// The shared vector, if `data` has this element type.
    fn peek(data: &Data) -> Option<&Arc<Vec<Self>>>;
    /// Takes the shared vector, if `data` has this element type.
    fn take(data: Data) -> Option<Arc<Vec<Self>>>;
}

macro_rules! element {
    ($($ty:ty => $variant:ident),* $(,)?) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$variant;
            fn wrap(values: Vec<Self>) -> Data {
                Data::$variant(Arc::new(values))
            }
            fn peek(data: &Data) -> Option<&Arc<Vec<Self>>> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
            fn take(data: Data) -> Option<Arc<Vec<Self>>> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
        }
    )*};
}

element! {
    f32 => Float32, f64 => Float64, f16 => Float16, bf16 => BFloat16,
    u8 => UInt8, i8 => Int8, u16 => UInt16, i16 => Int16, u32 => UInt32, i32 => Int32, u64 => UInt64, i64 => Int64,
    bool => Bool,
}

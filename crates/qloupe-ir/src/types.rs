//! Types of values: dtype and dimensions, some of them open.

use std::fmt;

use qloupe_tensor::DType;

/// Fields that the reader does not know, byte for byte, so that writing loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra(pub Vec<u8>);

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size. Exporters also write `-1` or `0` here; such a dimension is open.
    Known(i64),
    /// A named open dimension (`N`, `batch`, `?`).
    Symbol(String),
    /// An open dimension without a name.
    Unknown,
}

impl Dim {
    /// The size, if it is fixed: a `Known` of at least 1.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Known(size) if *size > 0 => usize::try_from(*size).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(size) => write!(f, "{size}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// dtype and shape of a tensor value.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// The element type; `None` where the file says "undefined".
    pub dtype: Option<DType>,
    /// The dimensions; `None` when even the rank is unknown.
    pub shape: Option<Vec<Dim>>,
    /// Unknown fields (denotations among them).
    pub extra: Extra,
}

impl TensorType {
    /// The shape, if every dimension is fixed.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::size).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("undefined")?,
        }
        let Some(shape) = &self.shape else {
            return f.write_str("[..]");
        };
        let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// A dense tensor.
    Tensor(TensorType),
    /// Sequences, maps, optionals, sparse tensors: the `TypeProto` bytes, carried and not interpreted.
    Other(Vec<u8>),
}

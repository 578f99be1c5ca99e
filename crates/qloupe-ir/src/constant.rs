//! Tensors that are stored in a model: initializers, `Constant` nodes, attributes.

use std::fmt;
use std::sync::Arc;

use qloupe_tensor::{DType, Tensor};

use crate::IrError;

/// A tensor in the encoding of a file, decoded when it is needed.
///
/// The file reader implements it over its mapped bytes, so that an untouched tensor is written back as it was read and
/// a model larger than memory can be opened.
pub trait EncodedTensor: fmt::Debug + Send + Sync {
    /// The element type.
    fn dtype(&self) -> DType;
    /// The dimensions.
    fn shape(&self) -> &[usize];
    /// Decodes the elements.
    ///
    /// # Errors
    /// Bytes that do not fit dtype and shape, or external data that cannot be read.
    fn decode(&self) -> Result<Tensor, IrError>;
    /// For the reader to find its own type again when it writes.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A tensor in memory, or still encoded.
#[derive(Clone, Debug)]
pub enum Constant {
    /// A decoded tensor.
    Memory(Tensor),
    /// A tensor as the file has it.
    Encoded(Arc<dyn EncodedTensor>),
}

impl Constant {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Memory(tensor) => tensor.dtype(),
            Self::Encoded(encoded) => encoded.dtype(),
        }
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Memory(tensor) => tensor.shape(),
            Self::Encoded(encoded) => encoded.shape(),
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// True when a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The decoded tensor.
    ///
    /// # Errors
    /// As [`EncodedTensor::decode`].
    pub fn tensor(&self) -> Result<Tensor, IrError> {
        match self {
            Self::Memory(tensor) => Ok(tensor.clone()),
            Self::Encoded(encoded) => encoded.decode(),
        }
    }
}

impl From<Tensor> for Constant {
    fn from(tensor: Tensor) -> Self {
        Self::Memory(tensor)
    }
}

/// Two constants are equal when their decoded tensors are.
impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.dtype() == other.dtype()
            && self.shape() == other.shape()
            && matches!((self.tensor(), other.tensor()), (Ok(a), Ok(b)) if a == b)
    }
}

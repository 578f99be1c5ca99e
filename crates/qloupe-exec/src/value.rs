//! Values of a run: tensors, and the sequences and optionals that some exporters pass between nodes.

use std::sync::Arc;

use qloupe_tensor::Tensor;

use crate::{OpError, Stored};

/// A value of a run. An optional that holds something is that something.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor.
    Tensor(Stored),
    /// A sequence of tensors, in ONNX order.
    Sequence(Arc<Vec<Tensor>>),
    /// An optional that holds nothing.
    Absent,
}

impl Value {
    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Stored> {
        if let Self::Tensor(stored) = self {
            Some(stored)
        } else {
            None
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a tensor",
            Self::Sequence(_) => "a sequence",
            Self::Absent => "an empty optional",
        }
    }

    /// The number of bytes of the elements.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Tensor(stored) => stored.size_bytes(),
            Self::Sequence(items) => items.iter().map(Tensor::size_bytes).sum(),
            Self::Absent => 0,
        }
    }

    /// True for the same elements bit for bit, in whichever order they are stored.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => {
                a.shape() == b.shape() && same_bits(a.in_layout(b.layout()), b.physical())
            }
            (Self::Sequence(a), Self::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same_bits(a, b))
            }
            (Self::Absent, Self::Absent) => true,
            _ => false,
        }
    }

    /// The tensor of input `idx`, in ONNX order.
    ///
    /// # Errors
    /// Another kind of value.
    pub(crate) fn require_tensor(&self, idx: usize) -> Result<&Tensor, OpError> {
        match self {
            Self::Tensor(stored) => Ok(stored.to_plain()),
            other => Err(OpError::input(
                idx,
                format!("wrong kind of value, expected a tensor, got {}", other.kind()),
            )),
        }
    }

    /// The items of input `idx`.
    ///
    /// # Errors
    /// Another kind of value.
    pub(crate) fn require_sequence(&self, idx: usize) -> Result<&Arc<Vec<Tensor>>, OpError> {
        match self {
            Self::Sequence(items) => Ok(items),
            other => Err(OpError::input(
                idx,
                format!("wrong kind of value, expected a sequence, got {}", other.kind()),
            )),
        }
    }
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    if a.shares_elements(b) {
        return a.shape() == b.shape();
    }
    if let (Some(x), Some(y)) = (a.as_slice::<f32>(), b.as_slice::<f32>()) {
        return a.shape() == b.shape() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits());
    }
    // Other floats are equal or are taken as changed: a NaN is not itself, and 0 is -0 to nobody.
    !a.dtype().is_float() && a == b
}

impl From<Stored> for Value {
    fn from(stored: Stored) -> Self {
        Self::Tensor(stored)
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(Stored::plain(tensor))
    }
}

impl From<Vec<Tensor>> for Value {
    fn from(items: Vec<Tensor>) -> Self {
        Self::Sequence(Arc::new(items))
    }
}

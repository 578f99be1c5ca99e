//! The bytes of a model: mapped from a file, or owned. Tensors share them.

use std::fmt;
use std::ops::{Deref, Range};

use crate::mapped_file::MappedFile;

/// The bytes of a model.
pub(crate) enum Source {
    Mapped(MappedFile),
    Owned(Vec<u8>),
}

impl Source {
    /// Says that a range is not needed for now.
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} bytes)", self.len())
    }
}

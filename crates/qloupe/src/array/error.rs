//! What can be wrong with a file of arrays.

use std::io;
use std::path::{Path, PathBuf};

use qloupe_tensor::DType;

use crate::write::WriteError;

/// An error of reading or writing a file of arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// The file cannot be opened or read.
    #[error("{file:?} cannot be read: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The file is none of the kinds that we read.
    #[error("{file:?} is not a file of arrays, expected .npy, .npz or .safetensors")]
    Kind {
        /// The file.
        file: PathBuf,
    },
    /// The bytes contradict the format.
    #[error("{file:?}{}: {what}", within(array))]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The array in it; empty where the whole file is meant.
        array: String,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// The format is right, this variant of it is not read.
    #[error("{file:?}{}: {what} is not supported, {remedy}", within(array))]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The array in it; empty where the whole file is meant.
        array: String,
        /// What is not supported.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The format has no such dtype.
    #[error(
        "{file:?}{}: NumPy files cannot hold {dtype}, convert it to float32 or an integer type",
        within(array)
    )]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// The array.
        array: String,
        /// Its dtype.
        dtype: DType,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn within(array: &str) -> String {
    if array.is_empty() {
        String::new()
    } else {
        format!(", array \"{array}\"")
    }
}

/// The place of an error: a file and an array in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Path,
    pub(super) array: &'a str,
}

impl Place<'_> {
    pub(super) fn read(self, source: io::Error) -> ArrayError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return self.malformed("the file ends too early");
        }
        ArrayError::Read {
            file: self.file.to_owned(),
            source,
        }
    }

    pub(super) fn malformed(self, what: impl Into<String>) -> ArrayError {
        ArrayError::Malformed {
            file: self.file.to_owned(),
            array: self.array.to_owned(),
            what: what.into(),
        }
    }

    pub(super) fn unsupported(self, what: impl Into<String>, remedy: &'static str) -> ArrayError {
        ArrayError::Unsupported {
            file: self.file.to_owned(),
            array: self.array.to_owned(),
            what: what.into(),
            remedy,
        }
    }
}

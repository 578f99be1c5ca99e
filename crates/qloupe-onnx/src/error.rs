//! What can be wrong with a file, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use qloupe_ir::IrError;

/// An error of reading or writing a model, with the file it is about.
#[derive(Debug)]
pub struct OnnxError {
    file: Option<PathBuf>,
    kind: OnnxErrorKind,
}

/// What is wrong. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxErrorKind {
    /// The operating system refuses.
    #[error("cannot be {action}: {source}")]
    Io {
        /// `opened`, `written`, ...
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The file is something else.
    #[error("is not an ONNX model: {what}")]
    NotOnnx {
        /// What it looks like.
        what: String,
    },
    /// A field is longer than the message or the file it lies in.
    #[error("truncated at byte {offset} in {field}, expected {expected} bytes, got {got}")]
    Truncated {
        /// Where the field starts.
        offset: usize,
        /// Which field, `graph.initializer[3].raw_data`.
        field: String,
        /// The length that the file declares.
        expected: u64,
        /// The bytes that are there.
        got: usize,
    },
    /// A field has a form or a value that ONNX does not allow.
    #[error("malformed at byte {offset} in {field}: {what}")]
    Malformed {
        /// Where the field starts.
        offset: usize,
        /// Which field.
        field: String,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// Subgraphs are nested too deeply.
    #[error("too deep at byte {offset} in {field}: subgraphs are nested, expected at most {limit} levels")]
    TooDeep {
        /// Where the subgraph starts.
        offset: usize,
        /// The subgraph.
        field: String,
        /// The limit.
        limit: usize,
    },
    /// The model has no graph.
    #[error("has no graph")]
    NoGraph,
    /// ONNX allows it, qloupe does not.
    #[error("unsupported at byte {offset} in {field}: {what} is not supported{remedy}")]
    Unsupported {
        /// Where the field starts.
        offset: usize,
        /// Which field.
        field: String,
        /// What is not supported.
        what: String,
        /// `: do this instead`, or nothing.
        remedy: &'static str,
    },
    /// Data in another file that cannot be used.
    #[error("tensor \"{tensor}\" at byte {offset} in {field}: external data \"{location}\" {what}")]
    ExternalData {
        /// Where the tensor starts.
        offset: usize,
        /// Which field, `graph.initializer[3]`.
        field: String,
        /// The tensor.
        tensor: String,
        /// The file, as the model names it.
        location: String,
        /// What is wrong with it.
        what: String,
    },
    /// A stored tensor that cannot be decoded to be written in another form.
    #[error(transparent)]
    Tensor(#[from] IrError),
    /// The model does not fit in one protobuf message.
    #[error("takes {size_bytes} bytes, expected at most {limit_bytes} in one message: {remedy}")]
    TooLarge {
        /// The size of the model.
        size_bytes: usize,
        /// The limit of protobuf.
        limit_bytes: usize,
        /// What to do instead.
        remedy: &'static str,
    },
}

impl OnnxError {
    pub(crate) fn new(file: Option<&Path>, kind: OnnxErrorKind) -> Self {
        Self {
            file: file.map(Path::to_owned),
            kind,
        }
    }

    /// The file, if the model came from or went to one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What is wrong.
    pub fn kind(&self) -> &OnnxErrorKind {
        &self.kind
    }
}

impl fmt::Display for OnnxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.kind),
            None => write!(f, "model: {}", self.kind),
        }
    }
}

impl std::error::Error for OnnxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_first() {
        let missing = || OnnxErrorKind::NoGraph;
        let error = OnnxError::new(Some(Path::new("a/model.onnx")), missing());
        assert_eq!(error.to_string(), "a/model.onnx: has no graph");
        assert_eq!(OnnxError::new(None, missing()).to_string(), "model: has no graph");
    }

    #[test]
    fn the_source_of_an_io_error_is_kept() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = OnnxError::new(
            Some(Path::new("m.onnx")),
            OnnxErrorKind::Io {
                action: "opened",
                source,
            },
        );
        assert_eq!(error.to_string(), "m.onnx: cannot be opened: no such file");
        assert_eq!(
            std::error::Error::source(&error).map(ToString::to_string),
            Some("no such file".to_owned())
        );
    }
}

//! Reads models from files and bytes.

use std::path::Path;
use std::sync::Arc;

use qloupe_ir::Model;

use crate::external_data::ExternalFolder;
use crate::foreign_file::recognize_foreign;
use crate::mapped_file::MappedFile;
use crate::model::read_model_message;
use crate::source::Source;
use crate::stored_tensor::Origin;
use crate::{OnnxError, OnnxErrorKind};

/// Reads a model from a file.
///
/// The file is mapped: tensors are decoded when they are used, and stay encoded as long as nobody changes them. Do not
/// change the file in place while the model is in use; replacing it, as [`crate::write_model`] does, is fine.
///
/// # Errors
/// The file cannot be opened, is no ONNX model, is truncated or malformed, or its external data is missing or outside
/// its folder.
pub fn read_model(path: &Path) -> Result<Model, OnnxError> {
    let failed = |kind| OnnxError::new(Some(path), kind);
    let opened = |source| {
        failed(OnnxErrorKind::Io {
            action: "opened",
            source,
        })
    };
    let file = MappedFile::open(path).map_err(opened)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let external = ExternalFolder::open(folder).map_err(opened)?;
    read(Source::Mapped(file), Some(external)).map_err(failed)
}

/// Reads a model from bytes. External data is looked for in `base_dir`; without one, a model that has some is refused.
///
/// # Errors
/// As [`read_model`].
pub fn read_model_bytes(bytes: Vec<u8>, base_dir: Option<&Path>) -> Result<Model, OnnxError> {
    let external = base_dir.map(ExternalFolder::open).transpose().map_err(|source| {
        OnnxError::new(
            base_dir,
            OnnxErrorKind::Io {
                action: "opened",
                source,
            },
        )
    })?;
    read(Source::Owned(bytes), external).map_err(|kind| OnnxError::new(None, kind))
}

fn read(source: Source, external: Option<ExternalFolder>) -> Result<Model, OnnxErrorKind> {
    let origin = Origin {
        source: Arc::new(source),
        external,
    };
    read_model_message(&origin).map_err(|kind| {
        let is_broken = matches!(
            kind,
            OnnxErrorKind::Truncated { .. } | OnnxErrorKind::Malformed { .. } | OnnxErrorKind::NoGraph
        );
        match recognize_foreign(&origin.source).filter(|_| is_broken) {
            Some(what) => OnnxErrorKind::NotOnnx { what },
            None => kind,
        }
    })
}

//! Writes models to files and bytes.

use std::path::Path;

use qloupe_ir::Model;

use crate::atomic_file::AtomicFile;
use crate::model::write_model_message;
use crate::tensor_writer::Placement;
use crate::wire_writer::Rope;
use crate::{OnnxError, OnnxErrorKind};

/// The largest message that readers of protobuf accept.
const MAX_MESSAGE_SIZE: usize = (1 << 31) - 1;

/// Writes a model to a file.
///
/// The file appears under its name only when it is complete; until then, and after an error, an older file of that
/// name stays as it is. References to external data are kept when the model is written to the folder it was read from;
/// elsewhere the data is embedded. A model that is too large for one file gets its large tensors in `<name>.data` beside it.
///
/// # Errors
/// The file cannot be written, or a tensor cannot be read from its own file.
pub fn write_model(model: &Model, path: &Path) -> Result<(), OnnxError> {
    write_limited(model, path, MAX_MESSAGE_SIZE).map_err(|kind| OnnxError::new(Some(path), kind))
}

/// Encodes a model, external data included.
///
/// # Errors
/// The model is larger than protobuf allows, or a tensor cannot be read from its own file.
pub fn model_to_bytes(model: &Model) -> Result<Vec<u8>, OnnxError> {
    encode_limited(model, MAX_MESSAGE_SIZE).map_err(|kind| OnnxError::new(None, kind))
}

fn encode_limited(model: &Model, limit: usize) -> Result<Vec<u8>, OnnxErrorKind> {
    let mut placement = Placement::Inside { folder: None };
    let rope = write_model_message(model, &mut placement)?;
    check_size(
        &rope,
        limit,
        "write it to a file, which gets a data file beside it",
    )?;
    Ok(rope.to_vec())
}

fn write_limited(model: &Model, path: &Path, limit: usize) -> Result<(), OnnxErrorKind> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new(".")).canonicalize().ok();
    let mut placement = Placement::Inside { folder };
    let mut rope = write_model_message(model, &mut placement)?;
    if rope.len() > limit {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        placement = Placement::Beside {
            location: format!("{name}.data"),
            data: Rope::default(),
        };
        rope = write_model_message(model, &mut placement)?;
        check_size(&rope, limit, "even without its large tensors it is too large")?;
    }
    let unwritten = |source| OnnxErrorKind::Io {
        action: "written",
        source,
    };
    let mut files = Vec::new();
    if let Placement::Beside { location, data } = &placement {
        let data_path = path.with_file_name(location);
        files.push(AtomicFile::create(&data_path, |file| data.write_to(file)).map_err(unwritten)?);
    }
    files.push(AtomicFile::create(path, |file| rope.write_to(file)).map_err(unwritten)?);
    files
        .into_iter()
        .try_for_each(AtomicFile::finish)
        .map_err(unwritten)
}

fn check_size(rope: &Rope<'_>, limit_bytes: usize, remedy: &'static str) -> Result<(), OnnxErrorKind> {
    if rope.len() > limit_bytes {
        return Err(OnnxErrorKind::TooLarge {
            size_bytes: rope.len(),
            limit_bytes,
            remedy,
        });
    }
    Ok(())
}

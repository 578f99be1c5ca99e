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

#[cfg(test)]
mod tests {
    use std::fs;

    use qloupe_ir::{AttributeValue, Constant};
    use qloupe_ir::{EncodedTensor, Graph, Initializer, IrError, Node};
    use qloupe_tensor::{DType, Tensor};

    use super::*;
    use crate::read_model;

    fn weights() -> Tensor {
        Tensor::vector((0_u16..600).map(f32::from).collect())
    }

    /// A model with a large initializer, a small one, strings and a large attribute.
    fn model() -> Model {
        let initializer = |name: &str, tensor: Tensor| Initializer {
            name: name.to_owned(),
            value: tensor.into(),
        };
        let strings = vec!["a".to_owned(), String::new()];
        Model {
            ir_version: 8,
            graph: Graph {
                nodes: vec![
                    Node::new("Constant", "c", &[], &["k"])
                        .with_attribute("value", AttributeValue::Tensor(weights().into())),
                ],
                initializers: vec![
                    initializer("w", weights()),
                    initializer("axes", Tensor::scalar(-1_i64)),
                    initializer("labels", Tensor::from_strings(&[2], strings).unwrap()),
                ],
                ..Graph::default()
            },
            ..Model::default()
        }
    }

    /// The model on disk, its large tensors in a data file.
    fn with_data_file(folder: &Path) -> Model {
        let path = folder.join("m.onnx");
        write_limited(&model(), &path, 1000).unwrap();
        read_model(&path).unwrap()
    }

    #[test]
    fn a_model_that_is_too_large_gets_a_data_file() {
        let folder = tempfile::tempdir().unwrap();
        let back = with_data_file(folder.path());
        assert_eq!(back, model());
        assert_eq!(
            fs::metadata(folder.path().join("m.onnx.data")).unwrap().len(),
            4096 + 2400
        );
        assert!(fs::metadata(folder.path().join("m.onnx")).unwrap().len() < 1000);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn external_data_stays_in_its_folder_and_is_embedded_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let back = with_data_file(folder.path());
        let original = fs::read(folder.path().join("m.onnx")).unwrap();
        write_model(&back, &folder.path().join("copy.onnx")).unwrap();
        assert_eq!(fs::read(folder.path().join("copy.onnx")).unwrap(), original);

        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("m.onnx");
        write_model(&back, &path).unwrap();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert_eq!(read_model(&path).unwrap(), model());
        assert_eq!(
            fs::read(&path).unwrap(),
            model_to_bytes(&model()).unwrap(),
            "embedded tensors look as if they had never been external"
        );
    }

    #[test]
    fn a_renamed_tensor_has_its_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        write_model(&model(), &path).unwrap();
        let mut renamed = read_model(&path).unwrap();
        renamed.graph.initializers[0].name = "better".to_owned();
        write_model(&renamed, &path).unwrap();
        let back = read_model(&path).unwrap();
        assert_eq!(back.graph.initializers[0].name, "better");
        assert_eq!(back, renamed);
    }

    #[test]
    fn a_model_that_cannot_fit_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let error = OnnxError::new(None, write_limited(&model(), &path, 10).unwrap_err());
        assert_eq!(
            error.to_string(),
            "model: takes 206 bytes, expected at most 10 in one message: even without its large tensors it is too \
             large"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = OnnxError::new(None, encode_limited(&model(), 10).unwrap_err());
        assert_eq!(
            error.to_string(),
            "model: takes 4901 bytes, expected at most 10 in one message: write it to a file, which gets a data file \
             beside it"
        );
    }

    /// A tensor that another crate keeps encoded.
    #[derive(Debug)]
    struct Foreign(Option<Tensor>);

    impl EncodedTensor for Foreign {
        fn dtype(&self) -> DType {
            DType::Float32
        }

        fn shape(&self) -> &[usize] {
            &[600]
        }

        fn decode(&self) -> Result<Tensor, IrError> {
            self.0.clone().ok_or_else(|| IrError::Decode {
                name: "w".to_owned(),
                what: "it is gone".to_owned(),
            })
        }

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }

    #[test]
    fn foreign_encoded_tensors_are_decoded() {
        let mut foreign = model();
        foreign.graph.initializers[0].value =
            Constant::Encoded(std::sync::Arc::new(Foreign(Some(weights()))));
        assert_eq!(
            model_to_bytes(&foreign).unwrap(),
            model_to_bytes(&model()).unwrap()
        );
        foreign.graph.initializers[0].value = Constant::Encoded(std::sync::Arc::new(Foreign(None)));
        assert_eq!(
            model_to_bytes(&foreign).unwrap_err().to_string(),
            "model: tensor \"w\": it is gone"
        );
    }
}

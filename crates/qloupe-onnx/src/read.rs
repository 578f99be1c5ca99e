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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire_writer::Message;
    use crate::{model_to_bytes, write_model};

    fn model_of(graph: Message<'_>) -> Vec<u8> {
        let mut model = Message::default();
        model.int(1, 8);
        model.message(7, graph);
        model.finish().to_vec()
    }

    fn error_of(bytes: Vec<u8>) -> String {
        read_model_bytes(bytes, None).unwrap_err().to_string()
    }

    /// A tensor of shape [2], of a dtype number, with one more field.
    fn tensor(data_type: i64, add: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
        let mut tensor = Message::default();
        tensor.int(1, 2);
        tensor.int(2, data_type);
        tensor.text(8, "w");
        add(&mut tensor);
        let mut graph = Message::default();
        graph.message(5, tensor);
        model_of(graph)
    }

    #[test]
    fn broken_models_are_located() {
        struct Case {
            bytes: Vec<u8>,
            text: &'static str,
        }
        let node_without_operator = || {
            let mut node = Message::default();
            node.text(3, "n");
            let mut graph = Message::default();
            graph.message(1, node);
            model_of(graph)
        };
        let attribute = |add: fn(&mut Message<'_>)| {
            let mut attribute = Message::default();
            add(&mut attribute);
            let mut node = Message::default();
            node.text(4, "Relu");
            node.message(5, attribute);
            let mut graph = Message::default();
            graph.message(1, node);
            model_of(graph)
        };
        let mut no_graph = Message::default();
        no_graph.int(1, 8);
        no_graph.text(2, "exporter");
        let mut two_graphs = Message::default();
        two_graphs.int(1, 8);
        two_graphs.message(7, Message::default());
        two_graphs.message(7, Message::default());
        let external = |entries: &[(&'static str, &'static str)]| {
            tensor(1, |tensor| {
                for (key, value) in entries {
                    let mut entry = Message::default();
                    entry.text(1, key);
                    entry.text(2, value);
                    tensor.message(13, entry);
                }
                tensor.int(14, 1);
            })
        };
        let cases = [
            Case {
                bytes: Vec::new(),
                text: "model: is not an ONNX model: it is empty",
            },
            Case {
                bytes: b"<!DOCTYPE html>\n<html>".to_vec(),
                text: "model: is not an ONNX model: it is a text that starts with \"<!DOCTYPE html>\"",
            },
            Case {
                bytes: no_graph.finish().to_vec(),
                text: "model: has no graph",
            },
            Case {
                bytes: two_graphs.finish().to_vec(),
                text: "model: malformed at byte 4 in graph: appears twice, expected one graph",
            },
            Case {
                bytes: node_without_operator(),
                text: "model: malformed at byte 4 in graph.node[0].op_type: is absent, expected an operator",
            },
            Case {
                bytes: attribute(|a| a.int(20, 2)),
                text: "model: malformed at byte 12 in graph.node[0].attribute[0].name: is absent, expected a name",
            },
            Case {
                bytes: attribute(|a| {
                    a.text(1, "value");
                    a.int(20, 4);
                }),
                text: "model: malformed at byte 14 in graph.node[0].attribute[0].t: expected one value, got 0",
            },
            Case {
                bytes: tensor(1, |t| t.bytes(9, vec![0; 7])),
                text: "model: malformed at byte 15 in graph.initializer[0].raw_data: length does not fit float32 of \
                       shape [2], expected 8 bytes, got 7",
            },
            Case {
                bytes: tensor(6, |t| t.int(5, 1)),
                text: "model: malformed at byte 4 in graph.initializer[0].int32_data: length does not fit int32 of \
                       shape [2], expected 2 entries, got 1",
            },
            Case {
                bytes: tensor(8, |t| t.bytes(9, vec![0; 2])),
                text: "model: malformed at byte 4 in graph.initializer[0].raw_data: strings cannot be stored as raw \
                       bytes, expected string_data",
            },
            Case {
                bytes: tensor(1, |t| t.int(1, -1)),
                text: "model: malformed at byte 8 in graph.initializer[0].dims[1]: dimension is -1, expected at least 0",
            },
            Case {
                bytes: tensor(1, |t| t.int(1, i64::MAX)),
                text: "model: malformed at byte 4 in graph.initializer[0].dims: shape [2, 9223372036854775807] has \
                       more elements than memory can hold",
            },
            Case {
                bytes: tensor(0, |_| ()),
                text: "model: malformed at byte 4 in graph.initializer[0].data_type: data type is 0, expected a known \
                       number",
            },
            Case {
                bytes: tensor(27, |_| ()),
                text: "model: unsupported at byte 4 in graph.initializer[0].data_type: data type 27 is not supported",
            },
            Case {
                bytes: tensor(1, |t| t.message(3, Message::default())),
                text: "model: unsupported at byte 10 in graph.initializer[0].segment: a tensor in segments is not supported",
            },
            Case {
                bytes: external(&[("location", "w.bin")]),
                text: "model: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"w.bin\" needs the folder of the model, which was read \
                       without one",
            },
        ];
        for case in cases {
            assert_eq!(error_of(case.bytes), case.text);
        }
        let folder = tempfile::tempdir().unwrap();
        for (entries, text) in [
            (
                &[("location", "../w.bin")][..],
                "model: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"../w.bin\" is no path inside the \
                 folder of the model, expected a relative one with \"/\" between its parts",
            ),
            (
                &[("location", "w.bin"), ("offset", "x")],
                "model: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"w.bin\" has offset \"x\", expected a number of bytes",
            ),
            (
                &[("location", "w.bin"), ("length", "9")],
                "model: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"w.bin\" has a length that does not fit dtype and shape, \
                 expected 8 bytes, got 9",
            ),
        ] {
            let error = read_model_bytes(external(entries), Some(folder.path())).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_cut_off_file_names_the_innermost_field() {
        let mut bytes = tensor(1, |t| t.bytes(9, vec![0; 8]));
        bytes.truncate(bytes.len() - 5);
        assert_eq!(
            error_of(bytes),
            "model: truncated at byte 15 in graph.initializer[0].raw_data, expected 8 bytes, got 3"
        );
    }

    #[test]
    fn files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let name = path.display();
        let error = read_model(&path).unwrap_err();
        assert_eq!(error.file(), Some(path.as_path()));
        assert!(matches!(error.kind(), OnnxErrorKind::Io { action: "opened", .. }));
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            read_model(&path).unwrap_err().to_string(),
            format!("{name}: is not an ONNX model: it is empty")
        );
        assert_eq!(
            read_model(folder.path()).unwrap_err().to_string(),
            format!(
                "{}: cannot be opened: it is not a regular file",
                folder.path().display()
            )
        );
    }

    /// A graph in a graph, `levels` deep.
    fn nested(levels: usize) -> Vec<u8> {
        let mut graph = Message::default();
        for _ in 1..levels {
            let mut attribute = Message::default();
            attribute.text(1, "body");
            attribute.message(6, graph);
            attribute.int(20, 5);
            let mut node = Message::default();
            node.text(4, "Loop");
            node.message(5, attribute);
            graph = Message::default();
            graph.message(1, node);
        }
        model_of(graph)
    }

    #[test]
    fn nesting_is_limited() {
        let bytes = nested(64);
        let model = read_model_bytes(bytes.clone(), None).unwrap();
        assert_eq!(model_to_bytes(&model).unwrap(), bytes);
        let place = vec!["node[0].attribute[0].g"; 64].join(".");
        assert_eq!(
            error_of(nested(65)),
            format!(
                "model: too deep at byte 1328 in graph.{place}: subgraphs are nested, expected at most 64 levels"
            )
        );
        assert!(error_of(nested(10_000)).ends_with("expected at most 64 levels"));
    }

    /// A small model with every kind of message.
    fn small_model() -> Vec<u8> {
        let mut weight = Message::default();
        weight.int(1, 2);
        weight.int(2, 1);
        weight.bytes(9, vec![1; 8]);
        let mut attribute = Message::default();
        attribute.text(1, "value");
        attribute.message(5, weight);
        attribute.int(20, 4);
        let mut integers = Message::default();
        integers.text(1, "pads");
        integers.int(8, -1);
        integers.int(20, 7);
        let mut node = Message::default();
        node.text(1, "x");
        node.text(2, "y");
        node.text(4, "Pad");
        node.message(5, attribute);
        node.message(5, integers);
        let mut dim = Message::default();
        dim.text(2, "N");
        let mut shape = Message::default();
        shape.message(1, dim);
        let mut dense = Message::default();
        dense.int(1, 1);
        dense.message(2, shape);
        let mut ty = Message::default();
        ty.message(1, dense);
        let mut input = Message::default();
        input.text(1, "x");
        input.message(2, ty);
        let mut packed = Message::default();
        packed.int(1, 3);
        packed.int(2, 3);
        packed.bytes(5, vec![1, 2, 3]);
        packed.text(8, "w");
        let mut graph = Message::default();
        graph.message(1, node);
        graph.message(5, packed);
        graph.message(11, input);
        let mut opset = Message::default();
        opset.bytes(1, vec![]);
        opset.int(2, 13);
        let mut model = Message::default();
        model.int(1, 8);
        model.message(7, graph);
        model.message(8, opset);
        model.finish().to_vec()
    }

    /// Reads, and does with the model what a user would do: nothing may panic.
    fn exercise(bytes: Vec<u8>) -> bool {
        let Ok(model) = read_model_bytes(bytes, None) else {
            return false;
        };
        for initializer in &model.graph.initializers {
            let _ = initializer.value.tensor();
        }
        for constant in model.graph.constants().values() {
            let _ = constant.tensor();
        }
        let written = model_to_bytes(&model).unwrap();
        let again = read_model_bytes(written.clone(), None).unwrap();
        model_to_bytes(&again).unwrap() == written
    }

    #[test]
    fn the_small_model_survives() {
        let bytes = small_model();
        let model = read_model_bytes(bytes.clone(), None).unwrap();
        assert_eq!(model_to_bytes(&model).unwrap(), bytes);
        assert!(exercise(bytes));
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("gone").join("m.onnx");
        let error = write_model(&model, &nowhere).unwrap_err();
        assert!(matches!(
            error.kind(),
            OnnxErrorKind::Io {
                action: "written",
                ..
            }
        ));
    }

    #[test]
    fn every_truncation_is_an_error_or_a_model() {
        let bytes = small_model();
        for end in 0..bytes.len() {
            let cut = bytes[..end].to_vec();
            match read_model_bytes(cut.clone(), None) {
                // Cut behind the graph, only the operator sets are missing.
                Ok(model) => assert!(model.opset_imports.is_empty() && exercise(cut), "{end}"),
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        OnnxErrorKind::Truncated { .. }
                            | OnnxErrorKind::NoGraph
                            | OnnxErrorKind::NotOnnx { .. }
                    ),
                    "{end}: {error}"
                ),
            }
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6)) {
            let mut bytes = small_model();
            for (index, bit) in flips {
                let idx = index.index(bytes.len());
                bytes[idx] ^= 1 << bit;
            }
            let is_model = read_model_bytes(bytes.clone(), None).is_ok();
            prop_assert_eq!(exercise(bytes), is_model);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut graph = vec![0x08, 8, 0x3a, u8::try_from(bytes.len() & 0x7f).unwrap()];
            graph.extend(bytes);
            let is_model = read_model_bytes(graph.clone(), None).is_ok();
            prop_assert_eq!(exercise(graph), is_model);
        }
    }
}

//! Files that are made to hurt: each is an error that names the byte, the field and what was expected, or is harmless.

#[cfg(test)]
mod hostile {
    use std::fs::{self, File};
    use std::io::{Seek, SeekFrom, Write};
    use std::path::Path;

    use qloupe_onnx::{OnnxErrorKind, model_to_bytes, read_model, read_model_bytes};
    use qloupe_tensor::Tensor;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }

    /// A length-delimited field.
    fn field(number: u64, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let payload = payload.as_ref();
        let length = varint(u64::try_from(payload.len()).unwrap());
        [varint(number << 3 | 2), length, payload.to_vec()].concat()
    }

    /// A field with a number.
    fn int(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn model(graph: &[Vec<u8>]) -> Vec<u8> {
        [int(1, 8), field(7, graph.concat())].concat()
    }

    fn node(parts: &[Vec<u8>]) -> Vec<u8> {
        field(1, [parts.concat(), field(4, "Relu")].concat())
    }

    /// A float32 tensor "w".
    fn initializer(dims: &[u64], parts: &[Vec<u8>]) -> Vec<u8> {
        let dims: Vec<u8> = dims.iter().flat_map(|&dim| int(1, dim)).collect();
        field(5, [dims, int(2, 1), field(8, "w"), parts.concat()].concat())
    }

    fn external(entries: &[(&str, &str)]) -> Vec<Vec<u8>> {
        let entry = |&(key, value): &(&str, &str)| field(13, [field(1, key), field(2, value)].concat());
        entries.iter().map(entry).chain([int(14, 1)]).collect()
    }

    fn error_of(bytes: Vec<u8>) -> String {
        read_model_bytes(bytes, None).unwrap_err().to_string()
    }

    #[test]
    fn each_broken_field_is_located() {
        struct Case {
            what: &'static str,
            bytes: Vec<u8>,
            text: &'static str,
        }
        let dim_of = |dim: Vec<u8>| {
            let shape = field(2, field(1, dim));
            let ty = field(2, field(1, [int(1, 1), shape].concat()));
            model(&[field(11, [field(1, "x"), ty].concat())])
        };
        let cases = [
            Case {
                what: "a dimension that is NaN",
                bytes: dim_of([vec![1 << 3 | 5], f32::NAN.to_le_bytes().to_vec()].concat()),
                text: "malformed at byte 19 in graph.input[0].type.tensor_type.shape.dim[0].dim_value: wrong wire \
                       type, expected a varint, got 4 bytes",
            },
            Case {
                what: "a dimension of eleven bytes",
                bytes: dim_of([vec![1 << 3], vec![0xff; 10], vec![1]].concat()),
                text: "malformed at byte 20 in graph.input[0].type.tensor_type.shape.dim[0]: varint is too long, \
                       expected at most 64 bits",
            },
            Case {
                what: "a version of eleven bytes",
                bytes: [vec![1 << 3], vec![0xff; 10], vec![1]].concat(),
                text: "malformed at byte 1 in model: varint is too long, expected at most 64 bits",
            },
            Case {
                what: "a name that is no text",
                bytes: model(&[node(&[field(1, "x"), field(2, b"y\xff")])]),
                text: "malformed at byte 12 in graph.node[0].output[0]: text is not valid UTF-8",
            },
            Case {
                what: "a name of an initializer that is no text",
                bytes: model(&[field(5, [int(2, 1), field(8, b"\xc3")].concat())]),
                text: "malformed at byte 10 in graph.initializer[0].name: text is not valid UTF-8",
            },
            Case {
                what: "a string longer than the file",
                bytes: model(&[vec![1 << 3 | 2, 20, 1 << 3 | 2], varint(1 << 62)]),
                text: "truncated at byte 16 in graph.node[0].input[0], expected 4611686018427387904 bytes, got 0",
            },
            Case {
                what: "a tensor longer than the file",
                bytes: model(&[initializer(&[1 << 40], &[vec![9 << 3 | 2], varint(1 << 42)])]),
                text: "truncated at byte 26 in graph.initializer[0].raw_data, expected 4398046511104 bytes, got 0",
            },
            Case {
                what: "a tensor whose size overflows",
                bytes: model(&[initializer(&[1 << 62, 4], &[])]),
                text: "malformed at byte 4 in graph.initializer[0].dims: shape [4611686018427387904, 4] has more \
                       elements than memory can hold",
            },
            Case {
                what: "a tensor of more bytes than an address has",
                bytes: model(&[initializer(&[1 << 61], &[])]),
                text: "malformed at byte 4 in graph.initializer[0].dims: shape [2305843009213693952] has more \
                       elements than memory can hold",
            },
            Case {
                what: "raw data of the wrong length",
                bytes: model(&[initializer(&[2], &[field(9, [0; 9])])]),
                text: "malformed at byte 15 in graph.initializer[0].raw_data: length does not fit float32 of shape \
                       [2], expected 8 bytes, got 9",
            },
            Case {
                what: "no data at all",
                bytes: model(&[initializer(&[3], &[])]),
                text: "malformed at byte 4 in graph.initializer[0].float_data: length does not fit float32 of shape \
                       [3], expected 3 entries, got 0",
            },
            Case {
                what: "a group, which protobuf gave up",
                bytes: model(&[vec![1 << 3 | 3]]),
                text: "malformed at byte 4 in graph: field 1 has wire type 3, expected 0, 1, 2 or 5",
            },
        ];
        for Case { what, bytes, text } in cases {
            assert_eq!(error_of(bytes), format!("model: {text}"), "{what}");
        }
    }

    #[test]
    fn a_long_string_is_a_string() {
        let name = "n".repeat(10 << 20);
        let bytes = model(&[node(&[field(3, &name)])]);
        let read = read_model_bytes(bytes.clone(), None).unwrap();
        assert_eq!(read.graph.nodes[0].name, name);
        assert_eq!(model_to_bytes(&read).unwrap(), bytes);
    }

    #[test]
    fn a_model_cut_off_anywhere_is_an_error() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/onnx/made-network");
        let whole = fs::read(path).unwrap();
        assert!(read_model_bytes(whole.clone(), None).is_ok());
        let n_models = (0..whole.len())
            .filter(|&end| match read_model_bytes(whole[..end].to_vec(), None) {
                Ok(_) => true,
                Err(error) => {
                    let is_located = matches!(
                        error.kind(),
                        OnnxErrorKind::Truncated { .. }
                            | OnnxErrorKind::NoGraph
                            | OnnxErrorKind::NotOnnx { .. }
                    );
                    assert!(is_located, "cut at byte {end}: {error}");
                    false
                }
            })
            .count();
        // Between the graph and the operator sets behind it.
        assert!(n_models <= 1, "{n_models} cuts give a model");
    }

    #[test]
    fn external_data_that_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("w.bin"), [0; 16]).unwrap();
        struct Case {
            entries: &'static [(&'static str, &'static str)],
            what: &'static str,
        }
        let cases = [
            Case {
                entries: &[("location", "w.bin"), ("offset", "-1")],
                what: "has offset \"-1\", expected a number of bytes",
            },
            Case {
                entries: &[("location", "w.bin"), ("offset", "1e3")],
                what: "has offset \"1e3\", expected a number of bytes",
            },
            Case {
                entries: &[("location", "w.bin"), ("offset", "18446744073709551616")],
                what: "has offset \"18446744073709551616\", expected a number of bytes",
            },
            Case {
                entries: &[("location", "w.bin"), ("offset", "18446744073709551615")],
                what: "is too short, expected 8 bytes from byte 18446744073709551615 on, got 16 in all",
            },
            Case {
                entries: &[("location", "w.bin"), ("offset", "9")],
                what: "is too short, expected 8 bytes from byte 9 on, got 16 in all",
            },
            Case {
                entries: &[("location", "w.bin"), ("length", "4611686018427387904")],
                what: "has a length that does not fit dtype and shape, expected 8 bytes, got 4611686018427387904",
            },
            Case {
                entries: &[("location", ".")],
                what: "is not a regular file",
            },
            Case {
                entries: &[],
                what: "is no path inside the folder of the model, expected a relative one with \"/\" between its parts",
            },
        ];
        for Case { entries, what } in cases {
            let bytes = model(&[initializer(&[2], &external(entries))]);
            let location = entries.first().map_or("", |entry| entry.1);
            assert_eq!(
                read_model_bytes(bytes, Some(folder.path()))
                    .unwrap_err()
                    .to_string(),
                format!(
                    "model: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"{location}\" {what}"
                )
            );
        }
        let nul = model(&[initializer(&[2], &external(&[("location", "w\0.bin")]))]);
        let error = read_model_bytes(nul, Some(folder.path())).unwrap_err();
        assert!(
            matches!(error.kind(), OnnxErrorKind::ExternalData { .. }),
            "{error}"
        );
    }

    /// Tensors are only read, so they may share bytes: tied weights do.
    #[test]
    fn external_tensors_may_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let numbers = [1_f32, 2.0, 3.0].map(f32::to_le_bytes).concat();
        fs::write(folder.path().join("w.bin"), numbers).unwrap();
        let at = |offset| initializer(&[2], &external(&[("location", "w.bin"), ("offset", offset)]));
        let read = read_model_bytes(model(&[at("0"), at("4"), at("4")]), Some(folder.path())).unwrap();
        let values: Vec<Tensor> = read
            .graph
            .initializers
            .iter()
            .map(|i| i.value.tensor().unwrap())
            .collect();
        let expected = [[1_f32, 2.0], [2.0, 3.0], [2.0, 3.0]].map(|v| Tensor::vector(v.to_vec()));
        assert_eq!(values, expected);
    }

    /// Models over 2 GB: the data file is mapped, and only what is decoded is read.
    #[test]
    #[cfg(target_os = "linux")]
    fn three_gigabytes_beside_the_model_take_no_memory() {
        use std::os::unix::fs::MetadataExt;
        const SIZE: u64 = 3 << 30;
        let folder = tempfile::tempdir().unwrap();
        let mut data = File::create(folder.path().join("w.bin")).unwrap();
        data.seek(SeekFrom::Start(SIZE - 8)).unwrap();
        data.write_all(&[1.5_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat())
            .unwrap();
        data.sync_all().unwrap();
        if data.metadata().unwrap().blocks() * 512 > SIZE / 2 {
            println!("skipped: the temporary folder does not hold sparse files");
            return;
        }
        let tail = (SIZE - 8).to_string();
        let all = initializer(&[SIZE / 4], &external(&[("location", "w.bin")]));
        let last = initializer(&[2], &external(&[("location", "w.bin"), ("offset", &tail)]));
        let path = folder.path().join("m.onnx");
        fs::write(&path, model(&[all, last])).unwrap();

        let before = peak_kibibytes();
        let read = read_model(&path).unwrap();
        let [all, last] = [0, 1].map(|i| &read.graph.initializers[i].value);
        assert_eq!(all.shape(), [805_306_368]);
        assert_eq!(last.tensor().unwrap(), Tensor::vector(vec![1.5_f32, 2.5]));
        let copy = folder.path().join("copy.onnx");
        qloupe_onnx::write_model(&read, &copy).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&path).unwrap());
        let grown = peak_kibibytes() - before;
        assert!(grown < 256 << 10, "memory has grown by {grown} KiB");
    }

    /// The largest size that this process has had in memory.
    #[cfg(target_os = "linux")]
    fn peak_kibibytes() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

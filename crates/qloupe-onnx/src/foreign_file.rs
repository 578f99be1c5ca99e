//! Tells files that are no ONNX models from broken ones, and what they are.

/// What a file is that is known by its first bytes: (offset, bytes, what it is).
const KNOWN: &[(usize, &[u8], &str)] = &[
    (
        0,
        b"version https://git-lfs",
        "it is a Git LFS pointer: fetch the file with `git lfs pull`",
    ),
    (
        0,
        b"PK\x03\x04",
        "it is a zip archive (PyTorch and Keras save those): export it to ONNX",
    ),
    (0, b"\x89HDF", "it is an HDF5 file (Keras): export it to ONNX"),
    (
        0,
        b"RKNN",
        "it is an RKNN model: use the ONNX model it was made from",
    ),
    (
        4,
        b"TFL3",
        "it is a TensorFlow Lite model: export the original to ONNX",
    ),
    (
        4,
        b"ORTM",
        "it is an ORT format model: use the ONNX model it was made from",
    ),
    (0, b"\x1f\x8b", "it is compressed with gzip: decompress it"),
];

/// Tags of the fields that a model starts with, in whatever order: number and wire type of one byte.
const MODEL_TAGS: [u8; 9] = [0x08, 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];

/// How many bytes are looked at.
const N_PROBED: usize = 256;

/// What a file that cannot be read as a model is, when it is no model at all.
pub(crate) fn recognize_foreign(bytes: &[u8]) -> Option<String> {
    let Some(first) = bytes.first() else {
        return Some("it is empty".to_owned());
    };
    let known = |&&(offset, magic, _): &&(usize, &[u8], &str)| {
        bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, what)) = KNOWN.iter().find(known) {
        return Some((*what).to_owned());
    }
    let probe = &bytes[..bytes.len().min(N_PROBED)];
    let text = String::from_utf8_lossy(probe);
    let is_text = |c: char| !c.is_control() || c.is_ascii_whitespace();
    if text
        .chars()
        .all(|c| is_text(c) && c != char::REPLACEMENT_CHARACTER)
    {
        let line: String = text
            .trim()
            .lines()
            .next()
            .unwrap_or("")
            .chars()
            .take(24)
            .collect();
        return Some(format!("it is a text that starts with {line:?}"));
    }
    if !MODEL_TAGS.contains(first) {
        let bytes: Vec<String> = probe.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        return Some(format!("it starts with the bytes {}", bytes.join(" ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_recognized() {
        struct Case {
            bytes: &'static [u8],
            what: Option<&'static str>,
        }
        let cases = [
            Case {
                bytes: b"",
                what: Some("it is empty"),
            },
            Case {
                bytes: b"hello world, I am long\nand have two lines",
                what: Some("it is a text that starts with \"hello world, I am long\""),
            },
            Case {
                bytes: b"\"json\"",
                what: Some("it is a text that starts with \"\\\"json\\\"\""),
            },
            Case {
                bytes: b"PK\x03\x04\x00\x00",
                what: Some("it is a zip archive (PyTorch and Keras save those): export it to ONNX"),
            },
            Case {
                bytes: b"\x1c\0\0\0TFL3",
                what: Some("it is a TensorFlow Lite model: export the original to ONNX"),
            },
            Case {
                bytes: &[0xff, 0xd8, 0xff, 0xe0],
                what: Some("it starts with the bytes ff d8 ff e0"),
            },
            Case {
                bytes: &[0x08, 0x07, 0x12],
                what: None,
            },
        ];
        for case in cases {
            assert_eq!(
                recognize_foreign(case.bytes).as_deref(),
                case.what,
                "{:?}",
                case.bytes
            );
        }
    }
}

//! Files of ranges, matched with names.

use proptest::prelude::*;

use super::*;
use crate::rknn_cfg::RknnCfg;

const KNOWN: &[&str] = &["x", "conv", "relu", "y"];

fn read(text: &str) -> Result<ImportedRanges, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.cfg");
    std::fs::write(&path, text).unwrap();
    let read = read_ranges(&path, KNOWN).map_err(|error| error.to_string());
    read.map_err(|text| text.replace(&path.display().to_string(), "r.cfg"))
}

#[test]
fn the_content_tells_the_format_and_suffixes_go_where_a_converter_appends_them() {
    let cfg = "custom_quantize_layers:\n    y-rs: float16\n    z: int16\nquantize_parameters:\n    x_int8:\n        dtype: int8\n        min: [0]\n        \
               max: [2]\n    x:\n        dtype: float32\n        min: [0]\n        max: [1]\n    relu-rs:\n        dtype: int8\n        min: [0]\n        \
               max: [6]\n    conv_2conv0:\n        dtype: int8\n        min: [0]\n        max: [6]\n";
    let imported = read(cfg).unwrap();
    let range = |name: &str, max| (name.to_owned(), Range { min: 0.0, max });
    assert_eq!(imported.format, "rknn");
    assert_eq!(
        imported.ranges,
        BTreeMap::from([range("x", 2.0), range("relu", 6.0)])
    );
    assert_eq!(imported.unmatched, ["conv_2conv0", "z"]);
    let pair = |name: &str, dtype: &str| (name.to_owned(), dtype.to_owned());
    assert_eq!(
        imported.custom_quantize_layers,
        BTreeMap::from([pair("y", "float16")])
    );
    assert_eq!(
        imported.dtypes,
        BTreeMap::from([pair("x", "float32"), pair("relu", "int8")])
    );

    let json = read("{\"x\": [0, 1], \"relu-rs\": [0, 6]}").unwrap();
    assert_eq!(
        (json.format, json.unmatched),
        ("onnxruntime", vec!["relu-rs".to_owned()])
    );
    let cache = read("TRT-8601-EntropyCalibration2\nx: 3f800000\n").unwrap();
    assert_eq!(cache.format, "tensorrt");
    assert_eq!(
        cache.ranges,
        BTreeMap::from([(
            "x".to_owned(),
            Range {
                min: -127.0,
                max: 127.0
            }
        )])
    );
}

#[test]
fn each_refusal_has_its_text() {
    let cases = [
        (
            "hello",
            "r.cfg: unknown format of ranges, expected one of calibration cache of ONNX Runtime, in JSON; .quantization.cfg of \
             rknn-toolkit2; calibration cache of TensorRT, got \"hello\"",
        ),
        (
            "TRT-8601-EntropyCalibration2\nx\n",
            "r.cfg: line 2: no scale, expected `name: 3c010a14`, got \"x\"",
        ),
        (
            "quantize_parameters:\n    x: 3\n",
            "r.cfg: line 2: tensor \"x\" is wrong, expected its fields in lines below, got \"3\"",
        ),
    ];
    for (text, error) in cases {
        assert_eq!(read(text).unwrap_err(), error);
    }
    let error = read_ranges(Path::new("none.cfg"), KNOWN).unwrap_err().to_string();
    assert_eq!(
        error,
        "none.cfg: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn formats_are_sorted() {
    assert!(
        ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()),
        "the list is sorted by id"
    );
}

const SEEDS: &[&str] = &[
    "custom_quantize_layers: {}   # 1\nquantize_parameters:\n    ? x\n    :   dtype: int8\n        min: &a\n        -   0.0\n        max: [1]\n    \
     'y z':\n        dtype: int8\n        min: *a\n        max:\n        -   2\n",
    "{\"CLS\": \"TensorsData\", \"data\": {\"x\": {\"lowest\": {\"CLS\": \"numpy.array\", \"data\": [0.5]}, \"highest\": 1}}}",
    "TRT-8601-EntropyCalibration2\nx: 3f800000\ny y: 00000000\n",
];

proptest! {
    /// Files that were cut and pasted at random are read or refused, and what is read can be edited.
    #[test]
    fn no_text_is_a_panic(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((0_usize..400, 0_usize..400, "[-a:?'\"&*#é \\n\\[\\]{}0-9.]{0,6}"), 0..6),
    ) {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (start, len, replacement) in edits {
            let start = start.min(text.len());
            let end = (start + len % 12).min(text.len());
            text.splice(start..end, replacement.chars());
        }
        let text: String = text.into_iter().collect();
        for format in ALL {
            format.recognizes(&text);
            // Both answers are fine.
            let _ = format.parse(&text);
        }
        if let Ok(cfg) = RknnCfg::parse(&text) {
            let mut edit = cfg.edit();
            for entry in &cfg.entries {
                edit.set_range(entry, Range { min: -1.0, max: 1.5 });
            }
            cfg.layers.iter().for_each(|layer| edit.remove_layer(layer));
            edit.set_layer("new", "float16");
            edit.finish();
        }
    }
}

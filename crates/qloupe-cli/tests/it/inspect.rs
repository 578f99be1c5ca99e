//! `inspect`: what it lists and what it refuses.

use crate::sandbox::Sandbox;

#[test]
fn a_model_is_listed_as_text_and_as_json() {
    let sandbox = Sandbox::new();
    let text = sandbox.succeed("inspect model.onnx --target rk3588");
    for part in ["Conv", "Identity:0", "rk3588", "float32  [unk__210, 1, 28, 28]"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = sandbox.succeed("inspect model.onnx --target rk3588 --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json.is_object(), "{json}");
}

#[test]
fn what_does_not_fit_is_refused() {
    struct Case {
        arguments: &'static str,
        text: &'static str,
    }
    let cases = [
        Case {
            arguments: "inspect none.onnx",
            text: "none.onnx: cannot be opened: No such file or directory (os error 2)",
        },
        Case {
            arguments: "inspect model.onnx --target rk3588s",
            text: "unknown target \"rk3588s\", did you mean \"rk3588\"? expected one of fp16, onnxruntime, onnxruntime-w8a16, rk3562, rk3562-w8a16, rk3566, rk3568, rk3576, rk3576-w4a16, rk3588, rv1103, rv1106, rv1126b, rv1126b-w4a16",
        },
        Case {
            arguments: "inspect model.onnx --shape inptu=1,1,28,28",
            text: "model.onnx: input \"inptu\" does not exist, did you mean \"input\"?",
        },
        Case {
            arguments: "inspect model.onnx --shape input=1,3,28,28",
            text: "model.onnx: input \"input\": shape does not fit, expected [unk__210, 1, 28, 28], got [1, 3, 28, 28]",
        },
        Case {
            arguments: "inspect model.onnx --threads 0",
            text: "--threads: expected at least 1, got 0",
        },
    ];
    let sandbox = Sandbox::new();
    for Case { arguments, text } in cases {
        sandbox.refuse(arguments, text);
    }
}

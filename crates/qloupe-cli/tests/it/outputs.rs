//! Outputs that cannot be written are refused before the work: the model is not even read.

use crate::sandbox::{ANALYZE, BUILD, INFER, Sandbox};

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_work() {
    struct Case {
        arguments: String,
        text: &'static str,
    }
    let sandbox = Sandbox::new();
    for folder in ["folder", "folder.json", "out.plan.toml"] {
        std::fs::create_dir(sandbox.path(folder)).unwrap();
    }
    sandbox.write("file", "");
    let case = |arguments: String, text| Case { arguments, text };
    let cases = [
        case(
            format!("{ANALYZE} --report none/out.json"),
            "\"none/out.json\" cannot be written: folder \"none\" does not exist",
        ),
        case(
            format!("{ANALYZE} --report out.json --report folder.json"),
            "\"folder.json\" cannot be written: it is a folder, expected a file name",
        ),
        case(
            format!("{ANALYZE} --report file/out.json"),
            "\"file/out.json\" cannot be written: \"file\" is not a folder",
        ),
        case(
            format!("{ANALYZE} --dump file"),
            "file: cannot be created: \"file\" is not a folder",
        ),
        case(
            format!("{INFER} --dump file/dump"),
            "file/dump: cannot be created: \"file\" is not a folder",
        ),
        case(
            format!("{INFER} --out none/out.npz"),
            "\"none/out.npz\" cannot be written: folder \"none\" does not exist",
        ),
        case(
            format!("{INFER} --out folder"),
            "\"folder\" cannot be written: it is a folder, expected a file name",
        ),
        case(
            format!("{BUILD} -o none/out.onnx"),
            "\"none/out.onnx\" cannot be written: folder \"none\" does not exist",
        ),
        case(
            format!("{BUILD} -o folder"),
            "\"folder\" cannot be written: it is a folder, expected a file name",
        ),
        case(
            format!("{BUILD} -o out.onnx"),
            "\"out.plan.toml\" cannot be written: it is a folder, expected a file name",
        ),
        case(
            "build model.onnx --precision fp16 -o none/out.onnx".to_owned(),
            "\"none/out.onnx\" cannot be written: folder \"none\" does not exist",
        ),
    ];
    for Case { arguments, text } in &cases {
        sandbox.refuse(arguments, text);
        sandbox.refuse(&arguments.replace("model.onnx", "none.onnx"), text);
    }
}

#[test]
fn the_model_is_never_written_over() {
    let sandbox = Sandbox::new();
    let model = sandbox.read("model.onnx");
    for (arguments, output) in [
        (format!("{BUILD} -o model.onnx"), "model.onnx"),
        (format!("{BUILD} -o calib/../model.onnx"), "calib/../model.onnx"),
        (
            "build model.onnx --precision fp16 -o ./model.onnx".to_owned(),
            "./model.onnx",
        ),
        (format!("{INFER} --out model.onnx"), "model.onnx"),
    ] {
        let text =
            format!("\"{output}\" cannot be written: it is the model that is read, expected another file");
        sandbox.refuse(&arguments, &text);
        assert!(
            sandbox.read("model.onnx") == model,
            "{arguments} changed the model"
        );
    }
}

//! Models that cannot be read or run are refused with their place.

use qloupe_ir::{Dim, Extra, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_onnx::{read_model, write_model};
use qloupe_tensor::{DType, Tensor};

use crate::sandbox::{ANALYZE, BUILD, INFER, Sandbox};

/// A model of one input `x` of 2 elements and one output `y`.
fn model(nodes: Vec<Node>) -> Model {
    let shape = Some(vec![Dim::Known(1), Dim::Known(2)]);
    let ty = || TensorType {
        dtype: Some(DType::Float32),
        shape: shape.clone(),
        extra: Extra::default(),
    };
    let mut model = Model {
        ir_version: 8,
        ..Model::default()
    };
    model.opset_imports.push(OpsetImport {
        domain: String::new(),
        version: 13,
    });
    model.graph.name = "graph".to_owned();
    model.graph.inputs.push(ValueInfo::tensor("x", ty()));
    model.graph.outputs.push(ValueInfo::tensor("y", ty()));
    model.graph.nodes = nodes;
    model
}

#[test]
fn files_that_are_no_models_are_refused() {
    let sandbox = Sandbox::new();
    let whole = sandbox.read("model.onnx");
    sandbox.write("cut.onnx", &whole[..100_000]);
    sandbox.write("text.onnx", "hello, this is no model");
    sandbox.write("empty.onnx", "");
    sandbox.write("picture.onnx", sandbox.read("calib/t10k_0000.png"));
    std::fs::create_dir(sandbox.path("folder.onnx")).unwrap();
    struct Case {
        model: &'static str,
        text: &'static str,
    }
    let cases = [
        Case {
            model: "none.onnx",
            text: "none.onnx: cannot be opened: No such file or directory (os error 2)",
        },
        Case {
            model: "folder.onnx",
            text: "folder.onnx: cannot be opened: it is not a regular file",
        },
        Case {
            model: "cut.onnx",
            text: "cut.onnx: truncated at byte 93375 in graph.initializer[8].raw_data, expected 15360 bytes, got 6625",
        },
        Case {
            model: "text.onnx",
            text: "text.onnx: is not an ONNX model: it is a text that starts with \"hello, this is no model\"",
        },
        Case {
            model: "empty.onnx",
            text: "empty.onnx: is not an ONNX model: it is empty",
        },
        Case {
            model: "picture.onnx",
            text: "picture.onnx: is not an ONNX model: it starts with the bytes 89 50 4e 47 0d 0a 1a 0a",
        },
    ];
    for Case { model, text } in cases {
        sandbox.refuse(
            &format!("{INFER} --out out.npz").replace("model.onnx", model),
            text,
        );
        sandbox.refuse(&format!("{BUILD} -o out.onnx").replace("model.onnx", model), text);
    }
}

#[test]
fn every_unsupported_operator_is_listed_at_once() {
    let sandbox = Sandbox::new();
    let nodes = vec![
        Node::new("Frobnicate", "first", &["x"], &["a"]),
        Node::new("Relu", "second", &["a"], &["b"]),
        Node::new("Frobnicate", "third", &["b"], &["c"]),
        Node {
            domain: "com.example".to_owned(),
            ..Node::new("Twiddle", "fourth", &["c"], &["y"])
        },
    ];
    write_model(&model(nodes), &sandbox.path("odd.onnx")).unwrap();
    let text = "odd.onnx: 2 unsupported operators: Frobnicate (2 nodes, the first is \"first\"), com.example.Twiddle (node \"fourth\")\nhelp: keep the part before them with --crop-outputs, or export the model without them";
    sandbox.refuse("infer odd.onnx --input test --out out.npz", text);
    sandbox.refuse("build odd.onnx --target rk3588 --dataset calib -o out.onnx", text);
}

#[test]
fn a_quantized_model_is_not_quantized_again() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o once.onnx"));
    let first = "the first is \"input_QuantizeLinear\" (QuantizeLinear)";
    let text = format!(
        "once.onnx: the model is quantized already, expected the float model it was made from, got 22 quantizing nodes, {first}\n\
         help: `qloupe analyze --quantized once.onnx [MODEL.onnx] --input FILE` shows where a quantized model loses accuracy"
    );
    for arguments in [
        format!("{ANALYZE} --report out.json"),
        format!("{BUILD} -o out.onnx"),
    ] {
        sandbox.refuse(&arguments.replace("model.onnx", "once.onnx"), &text);
    }
}

/// fmnist_mbv2 with some elements of its first convolution's weight replaced; gives the weight's name.
fn break_weight(sandbox: &Sandbox, file: &str, elements: &[f32]) -> String {
    let mut model = read_model(&sandbox.path("model.onnx")).unwrap();
    let conv = model
        .graph
        .nodes
        .iter()
        .find(|node| node.is_onnx("Conv"))
        .unwrap();
    let name = conv.input(1).unwrap().to_owned();
    let weight = model.graph.initializer(&name).unwrap().tensor().unwrap();
    let mut values = weight.require::<f32>().unwrap().to_vec();
    values[..elements.len()].copy_from_slice(elements);
    model
        .graph
        .set_initializer(&name, Tensor::new(weight.shape(), values).unwrap());
    write_model(&model, &sandbox.path(file)).unwrap();
    name
}

#[test]
fn a_weight_with_nan_is_named() {
    let sandbox = Sandbox::new();
    let name = break_weight(&sandbox, "nan.onnx", &[f32::NAN, f32::NAN]);
    let text = format!(
        "nan.onnx: constant \"{name}\": 2 of 144 elements are NaN, expected numbers\nhelp: export the model again; `qloupe inspect MODEL` lists every such constant"
    );
    for arguments in [
        format!("{INFER} --out out.npz"),
        format!("{ANALYZE} --report out.json"),
        format!("{BUILD} -o out.onnx"),
        "build model.onnx --precision fp16 -o out.onnx".to_owned(),
    ] {
        sandbox.refuse(&arguments.replace("model.onnx", "nan.onnx"), &text);
    }
    let listed = sandbox.succeed("inspect nan.onnx");
    assert!(
        listed.contains("2 of 144 elements are NaN or infinite"),
        "{listed}"
    );
}

/// Infinity may be a mask: it is only refused where it reaches a value that is calibrated.
#[test]
fn a_weight_with_infinity_is_found_where_it_arrives() {
    let sandbox = Sandbox::new();
    break_weight(&sandbox, "infinite.onnx", &[f32::INFINITY]);
    let text = "value \"Conv__115:0\", sample 0: 196 of 3136 elements are NaN or infinite\nhelp: look at the sample, at the mean and std of the recipe, and with `qloupe inspect MODEL` at the weights";
    sandbox.refuse(
        &format!("{BUILD} -o out.onnx").replace("model.onnx", "infinite.onnx"),
        text,
    );
    sandbox.refuse(
        &format!("{ANALYZE} --report out.json").replace("model.onnx", "infinite.onnx"),
        text,
    );
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    let text = "out.plan.toml: weight \"functional_1/conv2d_1/convolution/merged_input:0\": 1 of 144 elements are infinite, expected numbers that integers can hold\nhelp: `qloupe build` writes a plan that fits the model";
    sandbox.refuse("build infinite.onnx --plan out.plan.toml -o again.onnx", text);
    sandbox.refuse(
        "infer infinite.onnx --plan out.plan.toml --input test --out out.npz",
        text,
    );
}

/// Models that ask for more than any machine has, or for files that are not theirs: refused, and nothing is left behind.
#[test]
fn hostile_models_are_refused() {
    let sandbox = Sandbox::new();
    let mut huge = model(vec![
        Node::new("ConstantOfShape", "fill", &["shape"], &["big"]),
        Node::new("Add", "add", &["x", "big"], &["y"]),
    ]);
    huge.graph
        .set_initializer("shape", Tensor::vector(vec![1_i64 << 40, 1 << 20]));
    write_model(&huge, &sandbox.path("huge.onnx")).unwrap();
    let cycle = model(vec![
        Node::new("Add", "a", &["x", "b"], &["a"]),
        Node::new("Neg", "b", &["a"], &["b"]),
        Node::new("Neg", "y", &["a"], &["y"]),
    ]);
    write_model(&cycle, &sandbox.path("cycle.onnx")).unwrap();
    let mut outside = Vec::from(b"\x08\x08\x3a\x29\x2a\x27\x08\x01\x10\x01\x42\x01w");
    outside.extend(b"\x6a\x1c\x0a\x08location\x12\x10../../etc/passwd\x70\x01");
    sandbox.write("outside.onnx", outside);
    for command in [
        "infer MODEL --input test",
        "build MODEL --target rk3588 --dataset calib -o out.onnx",
        "analyze MODEL --target rk3588 --dataset calib --input test --report out.json",
    ] {
        let with = |model: &str| command.replace("MODEL", model);
        sandbox.refuse(
            &with("cycle.onnx"),
            "cycle.onnx: node \"a\" (Add), input 1 \"b\": no earlier node, input or initializer produces this value, the \
             later node \"b\" does: the graph has a cycle, or its nodes are out of order",
        );
        sandbox.refuse(
            &with("outside.onnx"),
            "outside.onnx: tensor \"w\" at byte 4 in graph.initializer[0]: external data \"../../etc/passwd\" is no path \
             inside the folder of the model, expected a relative one with \"/\" between its parts",
        );
        let outcome = sandbox.run(&with("huge.onnx"));
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        assert!(
            outcome
                .stderr
                .starts_with("error: huge.onnx: node \"fill\" (ConstantOfShape), output 0 is too large")
                && outcome
                    .stderr
                    .ends_with("got float32 of shape [1099511627776, 1048576]\n"),
            "{}",
            outcome.stderr
        );
        assert!(!sandbox.path("out.onnx").exists() && !sandbox.path("out.json").exists());
    }
}

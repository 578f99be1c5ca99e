//! Small networks that float16 cannot hold, and those of `testdata`.

use std::path::Path;

use qloupe_ir::{Model, Node};
use qloupe_tensor::Tensor;

use super::*;
use crate::prepare::Crop;
use crate::recipe::Recipe;
use crate::small_networks::{Opened, model, numbers};
use crate::targets;

const N_SAMPLES: usize = 3;

/// Plans a network on samples of numbers up to `scale`, and confirms that the written model keeps what is promised.
fn planned(model: Model, sample: &[usize], scale: f32) -> Quantized {
    let all = [&[N_SAMPLES], &sample[1..]].concat();
    let opened = Opened::new(model, &numbers(&all, scale));
    assert_eq!(opened.samples.len(), N_SAMPLES);
    planned_on(&opened.session, &opened.samples)
}

fn planned_on(session: &Session, dataset: &Dataset) -> Quantized {
    let options = QuantizeOptions::new(targets::find("fp16").unwrap());
    let quantized = quantize_to_mixed_fp16(session, dataset, &options, &|_, _, _| ()).unwrap();
    let written = convert_by_plan("m.onnx", &quantized.prepared, &quantized.plan).unwrap();
    let verdict = judge_written(session, written, dataset).unwrap();
    assert!(verdict.passes(), "the written model: {verdict}");
    quantized
}

fn names(quantized: &Quantized) -> Vec<&str> {
    kept_in_float32(&quantized.plan)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

fn reason<'q>(quantized: &'q Quantized, name: &str) -> &'q str {
    let kept = kept_in_float32(&quantized.plan);
    kept.into_iter().find(|(kept, _)| *kept == name).unwrap().1
}

/// A convolution that overflows, with `between` it and the scale that brings it back.
fn overflowing(between: Node) -> Model {
    let nodes = vec![
        Node::new("Conv", "conv", &["x", "w"], &["large"]),
        between,
        Node::new("Mul", "mul", &["next", "small"], &["scaled"]),
        Node::new("Relu", "last", &["scaled"], &["y"]),
    ];
    let constants = vec![
        ("w", numbers(&[4, 3, 1, 1], 60_000.0)),
        ("small", Tensor::scalar(1e-3_f32)),
    ];
    model(nodes, [&[1, 3, 4, 4], &[1, 4, 4, 4]], constants)
}

#[test]
fn an_overflow_that_is_scaled_down_later_stays_float32() {
    let model = overflowing(Node::new("Relu", "relu", &["large"], &["next"]));
    let quantized = planned(model, &[1, 3, 4, 4], 3.0);
    assert_eq!(
        names(&quantized),
        ["large", "next", "scaled"],
        "and the last Relu is float16"
    );
    let large = reason(&quantized, "large");
    assert!(large.starts_with("overflows in float16: max "), "{large}");
    assert!(large.ends_with("; without it output \"y\" is lost"), "{large}");
    let scaled = reason(&quantized, "scaled");
    assert!(
        scaled.starts_with("reads \"next\", which overflows in float16: max "),
        "{scaled}"
    );
    let record = &quantized.plan.optimized.passes[0];
    assert!(record.kept && record.pass == PASS, "{record:?}");
    let expected = "3 of 5 units and inputs in float32, each of which is needed: output \"y\" has ";
    assert!(record.evidence.starts_with(expected), "{}", record.evidence);
    assert!(
        record
            .evidence
            .ends_with("; all in float16: output \"y\" is lost"),
        "{}",
        record.evidence
    );
}

#[test]
fn a_scale_that_is_folded_into_the_weight_leaves_no_overflow() {
    let model = overflowing(Node::new("Mul", "twice", &["large", "small"], &["next"]));
    assert!(names(&planned(model, &[1, 3, 4, 4], 3.0)).is_empty());
}

#[test]
fn a_variance_that_vanishes_stays_float32() {
    let nodes = vec![
        Node::new("Mul", "square", &["x", "x"], &["squared"]),
        Node::new("ReduceMean", "mean", &["squared"], &["variance"])
            .with_attribute("axes", qloupe_ir::AttributeValue::Ints(vec![-1])),
        Node::new("Add", "add", &["variance", "epsilon"], &["shifted"]),
        Node::new("Sqrt", "sqrt", &["shifted"], &["deviation"]),
        Node::new("Div", "div", &["x", "deviation"], &["normal"]),
        Node::new("Mul", "scale", &["normal", "gamma"], &["y"]),
    ];
    let constants = vec![
        ("epsilon", Tensor::scalar(1e-12_f32)),
        ("gamma", numbers(&[16], 1.0)),
    ];
    let model = model(nodes, [&[1, 8, 16], &[1, 8, 16]], constants);
    let quantized = planned(model, &[1, 8, 16], 2e-4);
    let kept = names(&quantized);
    for name in ["squared", "variance", "shifted", "deviation"] {
        assert!(kept.contains(&name), "{name} in {kept:?}");
    }
    assert!(!kept.contains(&"normal") && !kept.contains(&"y"), "{kept:?}");
    let squared = reason(&quantized, "squared");
    assert!(squared.starts_with("vanishes in float16: "), "{squared}");
}

#[test]
fn a_constant_beyond_float16_stays_float32() {
    let nodes = vec![
        Node::new("Mul", "up", &["x", "large"], &["up"]),
        Node::new("Mul", "down", &["up", "small"], &["y"]),
    ];
    let constants = vec![
        ("large", Tensor::scalar(1e6_f32)),
        ("small", Tensor::scalar(1e-4_f32)),
    ];
    let quantized = planned(model(nodes, [&[1, 8], &[1, 8]], constants), &[1, 8], 0.01);
    assert_eq!(names(&quantized), ["up"]);
    assert_eq!(
        reason(&quantized, "up"),
        "constant \"large\" overflows in float16: max 1.0e6"
    );
}

#[test]
fn nothing_is_kept_where_float16_holds_everything() {
    let nodes = vec![Node::new("Relu", "relu", &["x"], &["y"])];
    let quantized = planned(model(nodes, [&[1, 8], &[1, 8]], vec![]), &[1, 8], 1.0);
    assert!(names(&quantized).is_empty());
    assert!(
        quantized.plan.optimized.passes[0]
            .evidence
            .starts_with("0 of 2 units and inputs in float32: ")
    );
}

#[test]
fn a_difference_of_large_numbers_needs_what_gives_them() {
    let nodes = vec![
        Node::new("Add", "add", &["x", "offset"], &["far"]),
        Node::new("Sub", "sub", &["far", "offset"], &["y"]),
    ];
    let constants = vec![("offset", Tensor::scalar(1000.0_f32))];
    let quantized = planned(model(nodes, [&[1, 64], &[1, 64]], constants), &[1, 64], 0.5);
    assert_eq!(names(&quantized), ["far", "y"]);
    let far = reason(&quantized, "far");
    assert!(
        far.starts_with("loses accuracy in float16; without it output \"y\" has "),
        "{far}"
    );
}

#[test]
fn real_networks_keep_their_promise() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let recipe = Recipe::read(&testdata.join("fmnist/recipe.toml")).unwrap();
    for name in ["fmnist_mbv2", "fmnist_resnet"] {
        let model = testdata.join(format!("models/{name}.onnx"));
        let session = Session::open(&model, &Crop::default(), &BTreeMap::new(), &recipe).unwrap();
        let dataset = Dataset::open(&testdata.join("fmnist/calib/t10k_0000.png"), &session.inputs).unwrap();
        planned_on(&session, &dataset);
    }
}

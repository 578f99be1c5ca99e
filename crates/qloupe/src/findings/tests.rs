//! Each pattern of a network on the smallest one that has it.

use qloupe_exec::Mode;
use qloupe_ir::{AttributeValue, Model, Node};
use qloupe_tensor::{Granularity, QuantParams, Range, Tensor};

use super::*;
use crate::analyze::{AnalyzeOptions, ViewSet, analyze};
use crate::calibrate;
use crate::plan::{Method, Precision};
use crate::quantize::{QuantizeOptions, Quantized, quantize};
use crate::report::Report;
use crate::sensitivity::Depth;
use crate::small_networks::{Opened, model, numbers};
use crate::targets;

const N_SAMPLES: usize = 4;

#[test]
fn ids_are_sorted_and_documented() {
    let ids: Vec<&str> = PATTERNS.iter().map(|pattern| pattern.id()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let text = include_str!("../../../../docs/FINDINGS.md");
    for pattern in PATTERNS {
        let line = format!("| `{}` | {} |", pattern.id(), pattern.title());
        assert!(text.contains(&line), "docs/FINDINGS.md lacks: {line}");
    }
}

/// What an analysis says of a network under plain ranges, on the samples that it was calibrated with.
fn report_of(network: Model, sample: &[usize], target: &str) -> Report {
    edited_report_of(network, sample, target, |_| ())
}

/// The same after an edit of the plan.
fn edited_report_of(
    network: Model,
    sample: &[usize],
    target: &str,
    edit: impl FnOnce(&mut Quantized),
) -> Report {
    let opened = Opened::new(network, &numbers(&[&[N_SAMPLES], &sample[1..]].concat(), 1.0));
    let options = QuantizeOptions {
        algorithm: calibrate::find("min_max").unwrap(),
        method: Method::Channel,
        optimization_level: 0,
        ..QuantizeOptions::new(targets::find(target).unwrap())
    };
    let mut quantized = quantize(&opened.session, &opened.samples, &options, &|_, _, _| ()).unwrap();
    edit(&mut quantized);
    let options = AnalyzeOptions {
        mode: Mode::Integer,
        views: ViewSet::parse(["entire", "local", "alone", "rescued"]).unwrap(),
        n_effect_samples: N_SAMPLES,
        depth: Depth::Exact,
        until_stable: false,
    };
    let subject = (&opened.session.network, &quantized.prepared, &quantized.plan);
    analyze(subject, &opened.samples, &options, &|_, _, _| (), None).unwrap()
}

fn found<'r>(report: &'r Report, id: &str) -> Vec<&'r Finding> {
    report
        .findings
        .iter()
        .filter(|finding| finding.id == id)
        .collect()
}

/// The pattern is found once, at a value.
fn assert_found(report: &Report, id: &str, layer: &str) {
    let layers: Vec<_> = found(report, id).iter().map(|f| f.layer.clone()).collect();
    assert_eq!(layers, [Some(layer.to_owned())], "{id}: {:#?}", report.findings);
}

fn assert_not_found(report: &Report, id: &str) {
    assert!(found(report, id).is_empty(), "{id}: {:#?}", report.findings);
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> Node {
    Node::new(op_type, output, inputs, &[output])
}

fn scalar(value: f32) -> Tensor {
    Tensor::scalar(value)
}

const IMAGE: [i64; 4] = [1, 4, 6, 6];
const IMAGE_SAMPLE: [usize; 4] = [1, 4, 6, 6];

/// A network on images.
fn on_images(nodes: Vec<Node>, output: &[i64], constants: Vec<(&str, Tensor)>) -> Model {
    model(nodes, [&IMAGE, output], constants)
}

fn one_by_one(scale: f32) -> Tensor {
    numbers(&[4, 4, 1, 1], scale)
}

#[test]
fn a_mask_takes_the_whole_range() {
    let network = |mask: f32| {
        let nodes = vec![
            node("Add", &["x", "mask"], "masked"),
            node("Softmax", &["masked"], "y"),
        ];
        let mut mask = vec![mask; 8];
        mask[..4].fill(0.0);
        let mask = Tensor::new(&[1, 8], mask).unwrap();
        model(nodes, [&[1, 8], &[1, 8]], vec![("mask", mask)])
    };
    let report = |mask: f32| report_of(network(mask), &[1, 8], "onnxruntime");
    assert_found(&report(-1e4), "huge_mask", "masked");
    assert_not_found(&report(-2.0), "huge_mask");
}

#[test]
fn a_gate_of_one_number_for_each_channel() {
    let network = |gate: &str| {
        let nodes = vec![
            node("Conv", &["x", "w"], "features"),
            node("GlobalAveragePool", &["features"], "pooled"),
            node("Conv", &["pooled", "v"], "excited"),
            node(gate, &["excited"], "gate"),
            node("Mul", &["features", "gate"], "y"),
        ];
        on_images(
            nodes,
            &IMAGE,
            vec![("w", one_by_one(1.0)), ("v", one_by_one(9.0))],
        )
    };
    let report = |gate: &str| report_of(network(gate), &IMAGE_SAMPLE, "onnxruntime");
    assert_found(&report("Sigmoid"), "squeeze_excite", "gate");
    assert_not_found(&report("Tanh"), "squeeze_excite");
}

#[test]
fn squares_means_and_roots_one_by_one() {
    let network = |root: &str| {
        let nodes = vec![
            node("Mul", &["x", "sizes"], "rows"),
            node("Mul", &["rows", "rows"], "square"),
            node("ReduceMean", &["square"], "variance").with_attribute("axes", AttributeValue::Ints(vec![2])),
            node("Add", &["variance", "epsilon"], "shifted"),
            node(root, &["shifted"], "deviation"),
            node("Div", &["rows", "deviation"], "y"),
        ];
        let sizes = Tensor::new(&[1, 4, 1], vec![1.0_f32, 0.3, 0.1, 0.05]).unwrap();
        let constants = vec![("sizes", sizes), ("epsilon", scalar(1e-3))];
        model(nodes, [&[1, 4, 8], &[1, 4, 8]], constants)
    };
    let report = |root: &str| report_of(network(root), &[1, 4, 8], "rk3588");
    assert_found(&report("Sqrt"), "decomposed_layer_norm", "variance");
    assert_not_found(&report("Sigmoid"), "decomposed_layer_norm");
}

#[test]
fn a_second_reader_keeps_an_activation_apart() {
    let network = |second: &str| {
        let nodes = vec![
            node("Conv", &["x", "w"], "product"),
            node("Relu", &["product"], "active"),
            node("Mul", &["active", second], "y"),
        ];
        on_images(nodes, &IMAGE, vec![("w", one_by_one(1.0))])
    };
    let report = |second: &str| report_of(network(second), &IMAGE_SAMPLE, "onnxruntime");
    assert_found(&report("product"), "second_consumer", "product");
    assert_not_found(&report("x"), "second_consumer");
}

#[test]
fn an_operator_without_integers_between_others() {
    let network = |between: &str| {
        let nodes = vec![
            node("Conv", &["x", "w"], "before"),
            node(between, &["before"], "between"),
            node("Conv", &["between", "w"], "y"),
        ];
        on_images(nodes, &IMAGE, vec![("w", one_by_one(1.0))])
    };
    let report = |between: &str| report_of(network(between), &IMAGE_SAMPLE, "onnxruntime");
    assert_found(&report("Cos"), "fallback_cast", "between");
    assert_not_found(&report("Sigmoid"), "fallback_cast");
}

/// A gate that is joined with larger values, and read once more.
fn joined() -> Model {
    let nodes = vec![
        node("Conv", &["x", "w"], "large"),
        node("Sigmoid", &["x"], "gate"),
        node("Concat", &["large", "gate"], "joined").with_attribute("axis", AttributeValue::Int(1)),
        node("Conv", &["joined", "v"], "y"),
    ];
    let constants = vec![("w", one_by_one(6.0)), ("v", numbers(&[4, 8, 1, 1], 1.0))];
    on_images(nodes, &IMAGE, constants)
}

#[test]
fn a_gate_under_the_scale_of_a_larger_value() {
    let share = |quantized: &mut Quantized| {
        let gate = quantized
            .plan
            .values
            .iter_mut()
            .find(|value| value.name == "gate");
        gate.unwrap().precision = Precision::SharedWith("joined".to_owned());
    };
    let shared = edited_report_of(joined(), &IMAGE_SAMPLE, "rk3588", share);
    assert_found(&shared, "shared_scale", "joined");
    let own = report_of(joined(), &IMAGE_SAMPLE, "rk3588");
    assert_not_found(&own, "gate_range");
    assert_not_found(&own, "shared_scale");
    let widen = |quantized: &mut Quantized| {
        let range = Range { min: 0.0, max: 20.0 };
        let edited = quantized.plan.with_range(&quantized.prepared, "gate", range);
        quantized.plan = edited.unwrap().unwrap();
    };
    let wide = edited_report_of(joined(), &IMAGE_SAMPLE, "rk3588", widen);
    assert_found(&wide, "gate_range", "gate");
}

#[test]
fn a_swish_in_halves() {
    let network = |gate: &str| {
        let nodes = vec![
            node("Add", &["x", "x"], "twice"),
            node(gate, &["twice"], "gate"),
            node("Mul", &["twice", "gate"], "swish"),
            node("Conv", &["swish", "w"], "y"),
        ];
        on_images(nodes, &IMAGE, vec![("w", one_by_one(1.0))])
    };
    let report = |gate: &str| report_of(network(gate), &IMAGE_SAMPLE, "onnxruntime");
    assert_found(&report("Sigmoid"), "swish_range", "swish");
    assert_not_found(&report("Tanh"), "swish_range");
}

#[test]
fn a_sum_over_a_distribution() {
    let network = |step: f32| {
        let counting: Vec<f32> = (0..16).map(|i| step * i as f32).collect();
        let nodes = vec![
            node("Mul", &["x", "nine"], "logits"),
            node("Softmax", &["logits"], "softmax").with_attribute("axis", AttributeValue::Int(1)),
            node("Conv", &["softmax", "counting"], "y"),
        ];
        let counting = Tensor::new(&[1, 16, 1, 1], counting).unwrap();
        let constants = vec![("nine", scalar(9.0)), ("counting", counting)];
        model(nodes, [&[1, 16, 4, 4], &[1, 1, 4, 4]], constants)
    };
    let report = |step: f32| report_of(network(step), &[1, 16, 4, 4], "onnxruntime");
    assert_found(&report(1.0), "dfl_head", "y");
    assert_not_found(&report(0.5), "dfl_head");
}

#[test]
fn boxes_and_scores_in_one_output() {
    let network = |scale: f32| {
        let nodes = vec![
            node("Mul", &["x", "scale"], "boxes"),
            node("Sigmoid", &["x"], "gate"),
            node("Mul", &["gate", "half"], "scores"),
            node("Concat", &["boxes", "scores"], "y").with_attribute("axis", AttributeValue::Int(1)),
        ];
        let constants = vec![("scale", scalar(scale)), ("half", scalar(0.5))];
        on_images(nodes, &[1, 8, 6, 6], constants)
    };
    let report = |scale: f32| report_of(network(scale), &IMAGE_SAMPLE, "rk3588");
    let large = report(640.0);
    for id in ["concat_member_lost", "cut_head", "dead_output"] {
        assert_found(&large, id, "y");
    }
    assert_eq!(
        large.findings[0].id, "concat_member_lost",
        "{:#?}",
        large.findings
    );
    assert_found_anywhere(&large, "quantizer_settings");
    let alike = report(1.0);
    for id in [
        "concat_member_lost",
        "cut_head",
        "dead_output",
        "quantizer_settings",
    ] {
        assert_not_found(&alike, id);
    }
}

fn assert_found_anywhere(report: &Report, id: &str) {
    assert_eq!(found(report, id).len(), 1, "{id}: {:#?}", report.findings);
}

#[test]
fn channels_of_zeros() {
    let network = |zeros: usize| {
        let mut weight = one_by_one(1.0).as_slice::<f32>().unwrap().to_vec();
        weight[..4 * zeros].fill(0.0);
        let weight = Tensor::new(&[4, 4, 1, 1], weight).unwrap();
        on_images(vec![node("Conv", &["x", "w"], "y")], &IMAGE, vec![("w", weight)])
    };
    let report = |zeros: usize| report_of(network(zeros), &IMAGE_SAMPLE, "onnxruntime");
    assert_found(&report(1), "constant_channel", "y");
    assert_not_found(&report(0), "constant_channel");
}

#[test]
fn scales_along_the_inputs_of_a_weight() {
    let network = || {
        let nodes = vec![node("Conv", &["x", "w"], "y")];
        on_images(nodes, &IMAGE, vec![("w", one_by_one(1.0))])
    };
    let turn = |quantized: &mut Quantized| {
        let weight = &mut quantized.plan.weights[0];
        let along_inputs = Granularity::PerChannel { axis: 1 };
        let scales = vec![0.001, 0.01, 0.002, 0.02];
        weight.params = QuantParams::new(weight.params.dtype(), along_inputs, scales, vec![0; 4]).unwrap();
    };
    let turned = edited_report_of(network(), &IMAGE_SAMPLE, "rk3588", turn);
    assert_found(&turned, "weight_axis", "y");
    // No integer kernel takes such scales out of its sums: what is wrong is clipping, and no other number.
    let shares = &turned
        .layers
        .iter()
        .find(|layer| layer.name == "y")
        .unwrap()
        .causes;
    assert!(
        shares.iter().all(|cause| cause.source != "requantize"),
        "{shares:?}"
    );
    let own = report_of(network(), &IMAGE_SAMPLE, "rk3588");
    assert_not_found(&own, "weight_axis");
}

#[test]
fn samples_beyond_a_range_and_a_range_that_was_changed() {
    let report = |times: f32, is_calibrated: bool| {
        let nodes = vec![node("Conv", &["x", "w"], "y")];
        let network = on_images(nodes, &IMAGE, vec![("w", one_by_one(1.0))]);
        let resize = move |quantized: &mut Quantized| {
            let mut values = quantized.plan.values.iter_mut();
            let value = values.find(|value| value.name == "y").unwrap();
            let Precision::Quantized(params) = &mut value.precision else {
                unreachable!("the target has integers");
            };
            let (scale, zero_point) = params.as_per_tensor().unwrap();
            *params = QuantParams::per_tensor(params.dtype(), scale * times, zero_point).unwrap();
            if let (true, Some(range)) = (is_calibrated, &mut value.range) {
                (range.min, range.max) = (range.min * times, range.max * times);
            }
        };
        edited_report_of(network, &IMAGE_SAMPLE, "onnxruntime", resize)
    };
    const IDS: [&str; 3] = ["activation_clipped", "activation_range_wide", "range_exceeded"];
    for (times, is_calibrated, id) in [
        (0.75, true, "range_exceeded"),
        (0.75, false, "activation_clipped"),
        (0.2, true, "activation_clipped"),
        // Samples for which the range is much too wide are told of, whoever made it.
        (16.0, true, "activation_range_wide"),
        (16.0, false, "activation_range_wide"),
    ] {
        let report = report(times, is_calibrated);
        assert_found(&report, id, "y");
        for other in IDS.iter().filter(|other| **other != id) {
            assert_not_found(&report, other);
        }
    }
}

#[test]
fn a_few_large_channels_stretch_a_range() {
    let network = |times: f32| {
        let mut weight = numbers(&[40, 4, 1, 1], 1.0).as_slice::<f32>().unwrap().to_vec();
        weight[4 * 7..4 * 8].iter_mut().for_each(|w| *w *= times);
        let weight = Tensor::new(&[40, 4, 1, 1], weight).unwrap();
        let nodes = vec![
            node("Conv", &["x", "w"], "features"),
            node("Conv", &["features", "v"], "y"),
        ];
        let mut next = numbers(&[4, 40, 1, 1], 1.0).as_slice::<f32>().unwrap().to_vec();
        next.iter_mut().skip(7).step_by(40).for_each(|v| *v /= times);
        let next = Tensor::new(&[4, 40, 1, 1], next).unwrap();
        on_images(nodes, &IMAGE, vec![("w", weight), ("v", next)])
    };
    let report = |times: f32| report_of(network(times), &IMAGE_SAMPLE, "onnxruntime");
    let stretched = report(30.0);
    assert_found(&stretched, "activation_outlier_channel", "features");
    let cause = &found(&stretched, "activation_outlier_channel")[0].evidence;
    assert!(cause.contains("channels 7 make the range"), "{cause}");
    assert_not_found(&report(1.0), "activation_outlier_channel");
}

#[test]
fn numbers_that_float16_does_not_have() {
    let network = |times: f32| {
        let nodes = vec![
            node("Mul", &["x", "times"], "scaled"),
            node("Relu", &["scaled"], "kept"),
            node("Mul", &["kept", "back"], "y"),
        ];
        let constants = vec![("times", scalar(times)), ("back", scalar(1.0 / times))];
        on_images(nodes, &IMAGE, constants)
    };
    let report = |times: f32| report_of(network(times), &IMAGE_SAMPLE, "fp16");
    let large = report(60_000.0 * 4.0);
    assert!(!found(&large, "fp16_overflow").is_empty() || !found(&large, "not_finite").is_empty());
    assert!(!found(&report(3e-5), "fp16_underflow").is_empty());
    let plain = report(1.0);
    for id in ["fp16_overflow", "fp16_underflow", "not_finite"] {
        assert_not_found(&plain, id);
    }
}

#[test]
fn what_is_not_finite_is_told_where_it_begins() {
    let weight = numbers(&[4, IMAGE_SAMPLE[1], 1, 1], 1.0);
    let nodes = vec![
        node("Mul", &["x", "times"], "scaled"),
        node("Conv", &["scaled", "w"], "features"),
        node("Relu", &["features"], "y"),
    ];
    let network = on_images(nodes, &IMAGE, vec![("times", scalar(1e9)), ("w", weight)]);
    let report = report_of(network, &IMAGE_SAMPLE, "fp16");
    let bad = |name: &str| {
        report
            .layers
            .iter()
            .any(|l| l.name == name && l.n_nan + l.n_infinite > 0)
    };
    assert!(bad("scaled") && bad("y"), "{:?}", report.layers);
    let places: Vec<_> = found(&report, "not_finite")
        .iter()
        .map(|f| f.layer.as_deref())
        .collect();
    assert_eq!(places, [Some("scaled")]);
}

#[test]
fn a_logarithm_of_what_is_rounded_to_zero_names_that_value() {
    let network = |least: f32| {
        let nodes = vec![
            node("Mul", &["x", "x"], "energy"),
            node("Max", &["energy", "least"], "floored"),
            node("Log", &["floored"], "level"),
            node("Transpose", &["level"], "y"),
        ];
        on_images(nodes, &IMAGE, vec![("least", scalar(least))])
    };
    let report = report_of(network(1e-5), &IMAGE_SAMPLE, "rk3588");
    let [only] = found(&report, "not_finite")[..] else {
        panic!("{:?}", report.findings);
    };
    assert_eq!(
        only.layer.as_deref(),
        Some("level"),
        "the Transpose only inherits"
    );
    assert!(
        only.cause.contains("\"floored\"") && only.fix.contains("\"floored\" and \"level\""),
        "{only:?}"
    );
    let mut effects = report
        .layers
        .iter()
        .filter_map(|layer| Some((&layer.name, layer.effect?)));
    let all_of_it = effects.find(|(_, effect)| effect.share > 0.999);
    assert_eq!(
        all_of_it.map(|(name, _)| name.as_str()),
        Some("floored"),
        "an infinite error has no other share"
    );
    assert!(
        report
            .additivity
            .as_ref()
            .is_some_and(|a| a.explained.is_finite())
    );
    assert_not_found(&report_of(network(0.1), &IMAGE_SAMPLE, "rk3588"), "not_finite");
}

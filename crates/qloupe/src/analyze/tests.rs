//! Reports of rewritten graphs are in the units of the original ones.

use qloupe_exec::Mode;
use qloupe_ir::{AttributeValue, Graph, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_tensor::{DType, Tensor};

use super::*;
use crate::passes::{Rescale, Scaling, Shift};
use crate::quantize::{QuantizeOptions, with_plain_ranges};
use crate::report::{Layer, Metrics, Report};
use crate::targets;

/// What scales of powers of two may change in a figure in dB: the same integers are compared.
const DECIBEL_TOLERANCE: f64 = 1e-3;

fn network(nodes: Vec<Node>, constants: Vec<(&str, Tensor)>) -> Network {
    let mut graph = Graph {
        nodes,
        inputs: vec![ValueInfo::tensor(
            "x",
            TensorType {
                dtype: Some(DType::Float32),
                shape: None,
                extra: Default::default(),
            },
        )],
        outputs: vec![ValueInfo::untyped("y")],
        ..Graph::default()
    };
    for (name, tensor) in constants {
        graph.set_initializer(name, tensor);
    }
    let model = Model {
        ir_version: 8,
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }],
        graph,
        ..Model::default()
    };
    Network::new("test.onnx".to_owned(), model).unwrap()
}

fn convolutions() -> Network {
    let wave = |n: usize, k: f32| (0..n).map(|i| (i as f32 * k).sin()).collect::<Vec<f32>>();
    let weight = |k| Tensor::new(&[2, 2, 1, 1], wave(4, k)).unwrap();
    let nodes = vec![
        Node::new("Conv", "a", &["x", "w1"], &["a"]),
        Node::new("Relu", "r", &["a"], &["r"]),
        Node::new("Conv", "y", &["r", "w2"], &["y"]),
    ];
    network(nodes, vec![("w1", weight(1.3)), ("w2", weight(0.7))])
}

fn inputs(shape: &[usize]) -> Vec<(String, Tensor)> {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| (i as f32 * 0.9).cos() * 2.0).collect::<Vec<f32>>();
    vec![("x".to_owned(), Tensor::new(shape, values).unwrap())]
}

fn analyzed(network: &Network, prepared: Prepared, inputs: &[(String, Tensor)]) -> Report {
    let options = QuantizeOptions::new(targets::find("rk3588").unwrap());
    let quantized = with_plain_ranges(prepared, [(0, inputs)], &options).unwrap();
    let views = ViewSet::parse(["entire", "local", "tensor"]).unwrap();
    let mut analysis = Analysis::new(
        network,
        &quantized.prepared,
        &quantized.plan,
        Mode::Integer,
        views,
    )
    .unwrap();
    analysis
        .observe(&Batch::single(0, inputs.to_vec()), None)
        .unwrap();
    analysis.finish()
}

fn prepared(network: &Network) -> Prepared {
    Prepared::new(network, targets::find("rk3588").unwrap(), 3).unwrap()
}

fn layer<'r>(report: &'r Report, name: &str) -> &'r Layer {
    report.layers.iter().find(|layer| layer.name == name).unwrap()
}

#[test]
fn samples_at_once_give_what_they_give_one_by_one() {
    const N: usize = 7;
    let network = convolutions();
    let inputs = inputs(&[1, 2, 3, 3]);
    let options = QuantizeOptions::new(targets::find("rk3588").unwrap());
    let quantized = with_plain_ranges(prepared(&network), [(0, inputs.as_slice())], &options).unwrap();
    let views = ViewSet::parse(["entire", "local", "tensor"]).unwrap();
    let (prepared, plan) = (&quantized.prepared, &quantized.plan);
    let new = || Analysis::new(&network, prepared, plan, Mode::Integer, views).unwrap();
    let read = |idx: usize| {
        let scaled = |x: &f32| x / (idx + 1) as f32;
        let values: Vec<f32> = inputs[0].1.as_slice().unwrap().iter().map(scaled).collect();
        let tensor = Tensor::new(inputs[0].1.shape(), values).unwrap();
        Ok(Batch::single(idx, vec![("x".to_owned(), tensor)]))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for n in [1, 2, N] {
        let (mut one_by_one, mut at_once) = (new(), new());
        for idx in 0..n {
            one_by_one.observe(&read(idx).unwrap(), None).unwrap();
        }
        let mut order = Vec::new();
        let after = |analysis: &Analysis<'_>, idx: usize| {
            order.push((idx, analysis.n_samples));
            idx + 1 < n
        };
        pool.install(|| at_once.observe_all(N, read, after)).unwrap();
        assert!(
            order.into_iter().eq((0..n).map(|idx| (idx, idx + 1))),
            "in order, no more than asked for"
        );
        let (one_by_one, at_once) = (one_by_one.finish(), at_once.finish());
        assert_eq!(at_once.samples.n, n);
        assert_eq!(
            serde_json::to_value((&at_once.layers, &at_once.outputs)).unwrap(),
            serde_json::to_value((&one_by_one.layers, &one_by_one.outputs)).unwrap()
        );
    }
}

#[test]
fn a_permuted_value_has_the_figures_of_what_it_is_made_of() {
    /// Sums in another order.
    const TOLERANCE: f64 = 1e-9;
    /// What a tap sees, as a comparison.
    #[derive(Default)]
    struct Seen(std::collections::BTreeMap<String, Comparison>);
    impl Tap for Seen {
        fn begin_sample(&mut self, _: usize) {}
        fn value(&mut self, name: &str, golden: &Tensor, test: &Tensor) -> Result<(), Error> {
            let (golden, test) = (golden.require::<f32>().unwrap(), test.require::<f32>().unwrap());
            let comparison = self.0.entry(name.to_owned()).or_default();
            comparison.observe(golden, test, None).unwrap();
            Ok(())
        }
    }
    let weight = Tensor::new(&[2, 2, 1, 1], vec![0.3_f32, -0.9, 0.8, 0.4]).unwrap();
    let nodes = vec![
        Node::new("Conv", "a", &["x", "w"], &["a"]),
        Node::new("Transpose", "t", &["a"], &["t"]),
        Node::new("Flatten", "f", &["t"], &["f"]),
        Node::new("Sigmoid", "y", &["f"], &["y"]),
    ];
    let network = network(nodes, vec![("w", weight)]);
    let given = inputs(&[1, 2, 3, 5]);
    let options = QuantizeOptions::new(targets::find("rk3588").unwrap());
    let quantized = with_plain_ranges(prepared(&network), [(0, given.as_slice())], &options).unwrap();
    for names in [
        &["entire", "local", "tensor"][..],
        &["entire", "local"],
        &["tensor"],
    ] {
        let views = ViewSet::parse(names.iter().copied()).unwrap();
        let (prepared, plan) = (&quantized.prepared, &quantized.plan);
        let mut analysis = Analysis::new(&network, prepared, plan, Mode::Integer, views).unwrap();
        let mut seen = Seen::default();
        let batch = Batch::single(0, given.clone());
        analysis.observe(&batch, Some(&mut seen)).unwrap();
        let report = analysis.finish();
        let sqnr = |metrics: &Metrics| metrics.get("sqnr_db").map(|metric| metric.value);
        let of_a = &layer(&report, "a").views;
        for name in ["t", "f"] {
            let views = &layer(&report, name).views;
            assert_eq!(sqnr(&views.entire).is_some(), names.contains(&"entire"), "{name}");
            assert_eq!(sqnr(&views.local).is_some(), names.contains(&"local"), "{name}");
            assert_eq!(sqnr(&views.tensor), sqnr(&of_a.tensor), "{name}");
            if let (Some(local), Some(tensor)) = (sqnr(&views.local), sqnr(&views.tensor)) {
                assert!((local - tensor).abs() < TOLERANCE, "{name}");
            }
            if let Some(entire) = sqnr(&views.entire) {
                let expected = seen.0[name].finish()["sqnr_db"].value;
                assert!(
                    (entire - expected).abs() < TOLERANCE,
                    "{name} {entire} {expected}"
                );
            }
        }
    }
}

#[test]
fn a_scaled_value_is_reported_in_the_units_of_the_original() {
    let network = convolutions();
    let inputs = inputs(&[1, 2, 3, 3]);
    let plain = analyzed(&network, prepared(&network), &inputs);
    // The same factor for both channels: integers, and with them errors, stay what they were.
    let scaling = |scale: [f32; 2]| Scaling {
        pass: "equalize_layers".to_owned(),
        values: vec!["a".to_owned(), "r".to_owned()],
        axis: 1,
        scale: scale.to_vec(),
    };
    let scaled = |scale| {
        let rewritten = prepared(&network)
            .with_scalings(&network, &[scaling(scale)])
            .unwrap();
        analyzed(&network, rewritten, &inputs)
    };
    let alike = scaled([4.0, 4.0]);
    let (before, after) = (layer(&plain, "r"), layer(&alike, "r"));
    assert_eq!(after.scale, [before.scale[0], before.scale[0]]);
    assert_eq!(after.range, before.range);
    assert_eq!(after.provenance[0].pass, "equalize_layers");
    let (before, after) = (&before.views, &after.views);
    for (before, after) in [
        (&before.entire, &after.entire),
        (&before.local, &after.local),
        (&before.tensor, &after.tensor),
    ] {
        let sqnr = |metrics: &Metrics| metrics["sqnr_db"].value;
        assert!(
            (sqnr(before) - sqnr(after)).abs() < DECIBEL_TOLERANCE,
            "{before:?} {after:?}"
        );
        assert_eq!(before["clipped_fraction"], after["clipped_fraction"]);
    }
    let different = scaled([1.0, 0.25]);
    let row = layer(&different, "r");
    assert_eq!(row.scale, [row.scale[1] * 4.0, row.scale[1]]);
    for metrics in [&row.views.entire, &row.views.local, &row.views.tensor] {
        assert!(metrics["cosine"].mean > 0.99, "{metrics:?}");
    }
}

#[test]
fn a_shifted_value_is_reported_in_the_units_of_the_original() {
    let wave = |k: f32| (0..4).map(|i| (i as f32 * k).sin()).collect::<Vec<f32>>();
    let weight = |k| Tensor::new(&[2, 2, 1, 1], wave(k)).unwrap();
    let nodes = vec![
        Node::new("Conv", "a", &["x", "w1"], &["a"]),
        Node::new("Conv", "y", &["a", "w2"], &["y"]),
    ];
    let network = network(nodes, vec![("w1", weight(1.3)), ("w2", weight(0.7))]);
    let shift = Shift {
        pass: "absorb_biases".to_owned(),
        values: vec!["a".to_owned()],
        shift: vec![3.0, -2.0],
    };
    let twice = [shift.clone(), shift.clone()];
    let error = prepared(&network).with_shifts(&network, &twice).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shift of \"a\" by absorb_biases: \"a\" is shifted already"
    );
    let rewritten = prepared(&network).with_shifts(&network, &[shift]).unwrap();
    let report = analyzed(&network, rewritten, &inputs(&[1, 2, 3, 3]));
    let row = layer(&report, "a");
    assert_eq!(row.provenance[0].pass, "absorb_biases");
    for metrics in [&row.views.entire, &row.views.local, &row.views.tensor] {
        assert!(metrics["cosine"].mean > 0.99, "{metrics:?}");
    }
}

#[test]
fn values_that_a_rescaled_concat_inserts_have_golden_ones() {
    let nodes = vec![
        Node::new("Sigmoid", "s", &["x"], &["scores"]),
        Node::new("Mul", "b", &["x", "w"], &["boxes"]),
        Node::new("Concat", "y", &["boxes", "scores"], &["y"]).with_attribute("axis", AttributeValue::Int(1)),
    ];
    let network = network(nodes, vec![("w", Tensor::new(&[1], vec![100.0_f32]).unwrap())]);
    let rescale = Rescale {
        value: "y".to_owned(),
        axis: 1,
        rank: 3,
        sizes: vec![2, 2],
        exponents: vec![-7, 0],
    };
    let rewritten = prepared(&network).with_rescales(&network, &[rescale]).unwrap();
    assert_eq!(rewritten.maps["y_rescaled"].scale, [128.0, 128.0, 1.0, 1.0]);
    assert_eq!(rewritten.maps["y_rescaled_member0"].source, "boxes");
    let report = analyzed(&network, rewritten, &inputs(&[1, 2, 3]));
    let local = &layer(&report, "y").views.local;
    assert!(local["cosine"].mean > 0.99, "{local:?}");
}

#[test]
fn what_a_convolution_computes_before_it_rounds_is_neither_planned_nor_written() {
    let weight = |k: f32| {
        let values = (0..4).map(|i| (i as f32 * k).sin()).collect();
        Tensor::new(&[2, 2, 1, 1], values).unwrap()
    };
    let nodes = vec![
        Node::new("Conv", "a", &["x", "w1"], &["a"]),
        Node::new("Sigmoid", "s", &["a"], &["s"]),
        Node::new("Mul", "m", &["a", "s"], &["m"]),
        Node::new("Conv", "b", &["m", "w2"], &["b"]),
        Node::new("Add", "y", &["b", "m"], &["y"]),
    ];
    let network = network(nodes, vec![("w1", weight(1.3)), ("w2", weight(0.7))]);
    let target = targets::find("rk3588").unwrap();
    let prepared = Prepared::new(&network, target, 0).unwrap();
    let given = inputs(&[1, 2, 4, 4]);
    let options = QuantizeOptions::new(target);
    let quantized = with_plain_ranges(prepared, [(0, given.as_slice())], &options).unwrap();
    let values: Vec<&str> = quantized.plan.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(values, ["x", "m", "y"]);
    let written = crate::qdq::export_qdq(&quantized.prepared, &quantized.plan).unwrap();
    let rounded: Vec<&str> = written
        .graph
        .nodes
        .iter()
        .filter(|node| node.op_type == "QuantizeLinear")
        .filter_map(|node| node.input(0))
        .collect();
    assert_eq!(rounded, ["x", "m", "y_float"]);
    // Both modes round once, behind the same float arithmetic.
    let run = |mode| {
        let program = quantized
            .prepared
            .quantized(&network, &quantized.plan, mode)
            .unwrap();
        program.run(&given).unwrap()[0]
            .1
            .require::<f32>()
            .unwrap()
            .to_vec()
    };
    let written = Network::new("q.onnx".to_owned(), written).unwrap();
    let written = written.program.run(given.clone()).unwrap()[0]
        .1
        .require::<f32>()
        .unwrap()
        .to_vec();
    assert_eq!(run(Mode::FakeQuant), written);
    let step = quantized.plan.forms()["y"].params().unwrap().scale()[0];
    let farthest = run(Mode::Integer)
        .iter()
        .zip(&written)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(farthest <= 1.01 * step, "{farthest} of {step}");
}

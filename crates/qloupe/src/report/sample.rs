//! A small report for the golden files: a detector whose last Concat joins boxes and scores under one scale.

use std::collections::BTreeMap;

use super::*;
use crate::metrics::Comparison;

/// Metrics of an error of relative size `error` at a right angle to the reference.
fn metrics(scale: f32, error: f32) -> Metrics {
    let mut comparison = Comparison::new();
    for sample in [1.0_f32, 0.9] {
        let reference = [scale * 3.0, scale * 4.0, 0.0];
        let test = [reference[0], reference[1], scale * 5.0 * error * sample];
        comparison
            .observe(&reference, &test, None)
            .expect("invariant: equal lengths");
    }
    comparison.finish()
}

/// Metrics of a value that became all zero.
fn dead() -> Metrics {
    let mut comparison = Comparison::new();
    comparison
        .observe(&[0.091, 0.03], &[0.0, 0.0], None)
        .expect("invariant: equal lengths");
    comparison.finish()
}

fn layer(op_type: &str, node: &str, shape: &[usize], range: (f64, f64), errors: (f32, f32, f32)) -> Layer {
    let scale = (range.1 - range.0) / 255.0;
    let size = range.1 as f32;
    Layer {
        name: format!("{node}_output_0"),
        op_type: op_type.to_owned(),
        node: node.to_owned(),
        dtype: "int8".to_owned(),
        shape: shape.to_vec(),
        scale: vec![scale as f32],
        zero_point: vec![(-128.0 - range.0 / scale).trunc() as i32],
        range: Some(ValueRange {
            min: range.0,
            max: range.1,
        }),
        views: Views {
            entire: metrics(size, errors.0),
            tensor: metrics(size, errors.1),
            local: metrics(size, errors.2),
            ..Views::default()
        },
        ..Layer::default()
    }
}

fn without_numbers(op_type: &str, node: &str, dtype: &str, reason: &str) -> Layer {
    Layer {
        name: format!("{node}_output_0"),
        op_type: op_type.to_owned(),
        node: node.to_owned(),
        dtype: dtype.to_owned(),
        shape: vec![1, 16, 160, 160],
        reason: Some(reason.to_owned()),
        ..Layer::default()
    }
}

/// The sample.
pub(crate) fn sample() -> Report {
    let mut input = layer("Input", "images", &[1, 3, 320, 320], (0.0, 1.0), (0.0, 0.0, 0.0));
    input.name = "images".to_owned();
    input.node = String::new();
    let mut fused = without_numbers(
        "Conv",
        "/model.0/conv/Conv",
        "int8",
        "fused into \"/model.0/act/Mul_output_0\"",
    );
    fused.fused_into = Some("/model.0/act/Mul_output_0".to_owned());
    let mut swish = layer(
        "Mul",
        "/model.0/act/Mul",
        &[1, 16, 160, 160],
        (-0.28, 52.7),
        (0.021, 0.004, 0.019),
    );
    swish.unit = ["/model.0/conv/Conv", "/model.0/act/Sigmoid", "/model.0/act/Mul"]
        .map(str::to_owned)
        .to_vec();
    let mut concat = layer(
        "Concat",
        "output0",
        &[1, 22, 2100],
        (0.0, 317.4),
        (0.022, 0.012, 0.012),
    );
    concat.name = "output0".to_owned();
    concat.node = "/model.22/Concat_5".to_owned();
    let softmax = "/model.22/dfl/Softmax";
    Report {
        model: ModelSummary {
            file: "yolov8n_320.onnx".to_owned(),
            opset: 17,
            n_nodes: 233,
            n_params: 3_014_358,
        },
        target: "rk3588".to_owned(),
        mode: "integer".to_owned(),
        plan: PlanSummary {
            algorithm: "min_max".to_owned(),
            method: "channel".to_owned(),
            optimization_level: 3,
            n_quantized: 6,
            n_fp16: 1,
            n_float: 0,
            file: None,
        },
        samples: Samples {
            n: 2,
            source: "photos/".to_owned(),
            n_calibration: 200,
        },
        layers: vec![
            input,
            fused,
            swish,
            layer("Conv", "/model.1/conv/Conv", &[1, 32, 80, 80], (-58.4, 52.8), (0.035, 0.004, 0.018)),
            layer("Conv", "/model.22/cv3.0/cv3.0.2/Conv", &[1, 18, 40, 40], (-23.1, 1.9), (0.16, 0.01, 0.018)),
            without_numbers("Softmax", softmax, "float16", "runs in float16: no int8 kernel on rk3588"),
            layer("Sigmoid", "/model.22/Sigmoid", &[1, 18, 2100], (0.0, 0.91), (0.49, 0.004, 0.29)),
            layer("Mul", "/model.22/Mul_2", &[1, 4, 2100], (0.0, 317.4), (0.022, 0.004, 0.004)),
            concat,
        ],
        outputs: vec![Output {
            name: "output0".to_owned(),
            shape: vec![1, 22, 2100],
            views: Views {
                entire: metrics(317.4, 0.022),
                ..Views::default()
            },
            slices: vec![
                Slice {
                    axis: 1,
                    start: 0,
                    end: 4,
                    label: Some("boxes".to_owned()),
                    dead: false,
                    flips: None,
                    views: Views {
                        entire: metrics(317.4, 0.022),
                        ..Views::default()
                    },
                },
                Slice {
                    axis: 1,
                    start: 4,
                    end: 22,
                    label: Some("scores".to_owned()),
                    dead: true,
                    flips: None,
                    views: Views {
                        entire: dead(),
                        ..Views::default()
                    },
                },
            ],
            ..Output::default()
        }],
        findings: vec![
            Finding {
                id: "concat_range".to_owned(),
                severity: Severity::Error,
                layer: Some("output0".to_owned()),
                cause: "Concat joins values of very different ranges under one scale".to_owned(),
                evidence: "input 1 \"/model.22/Sigmoid_output_0\" reaches 0.91, the scale is 1.2447: every score \
                           rounds to 0"
                    .to_owned(),
                fix: "cut the model before the Concat: --crop-outputs /model.22/Mul_2_output_0,/model.22/Sigmoid_output_0"
                    .to_owned(),
                ..Finding::default()
            },
            Finding {
                id: "weight_range".to_owned(),
                severity: Severity::Warning,
                layer: Some("/model.22/cv3.0/cv3.0.2/Conv_output_0".to_owned()),
                cause: "few channels hold the range".to_owned(),
                evidence: "1 of 18 channels reaches -23.1, the others stay above -4.2".to_owned(),
                fix: "qloupe hybrid propose".to_owned(),
                effect_db: None,
                action: None,
                tried: None,
            },
        ],
        skipped: vec![
            Skipped {
                name: "/model.22/Shape_output_0".to_owned(),
                op_type: "Shape".to_owned(),
                reason: "integer value".to_owned(),
            },
            Skipped {
                name: "/model.22/Gather_output_0".to_owned(),
                op_type: "Gather".to_owned(),
                reason: "integer value".to_owned(),
            },
            Skipped {
                name: "/model.22/Constant_output_0".to_owned(),
                op_type: "Constant".to_owned(),
                reason: "constant".to_owned(),
            },
        ],
        costs: vec![
            cost("float32", 12_213_500, 12_057_432, 4_915_200, Some(21.4)),
            cost("float16", 6_151_020, 6_028_716, 2_457_600, None),
            cost("int8", 3_264_118, 3_062_112, 1_228_800, Some(9.1)),
        ],
        notes: vec![
            "checked against the vendor's PC simulator, not silicon".to_owned(),
            "2 samples are few: figures may move with more".to_owned(),
        ],
        tool: Tool {
            name: "qloupe".to_owned(),
            version: "0.0.0".to_owned(),
        },
        timing: Timing {
            total_seconds: 4.25,
            phases: vec![
                Phase {
                    name: "calibrate".to_owned(),
                    seconds: 1.5,
                },
                Phase {
                    name: "analyze".to_owned(),
                    seconds: 2.75,
                },
            ],
        },
        ..Report::default()
    }
}

fn cost(precision: &str, file: u64, weights: u64, activations: u64, latency_ms: Option<f64>) -> Cost {
    Cost {
        precision: precision.to_owned(),
        file_size_bytes: Some(file),
        weight_bytes: Some(weights),
        peak_activation_bytes: Some(activations),
        latency_ms,
        device: latency_ms.map(|_| "Example CPU 3000".to_owned()),
        reason: latency_ms
            .is_none()
            .then(|| "no float16 kernels on this CPU".to_owned()),
    }
}

/// The sample with results of a device.
pub(crate) fn on_device() -> Report {
    let mut report = sample();
    for layer in report.layers.iter_mut().filter(|layer| layer.reason.is_none()) {
        layer.runtime = Some(RuntimeViews {
            entire: layer.views.entire.clone(),
            simulator: metrics(1.0, 0.001),
            local: metrics(1.0, 0.0005),
            local_inputs: "device".to_owned(),
        });
    }
    report.plan.file = Some("yolov8n_320.plan.toml".to_owned());
    report.layers[4].n_nan = 3;
    report.layers[4].n_infinite = 1;
    report.layers[4].causes.push(Cause {
        source: "weight_rounding".to_owned(),
        share: 0.75,
        avoidable: 0.5,
        sqnr_db: 36.5,
        detail: "channels 3 and 7".to_owned(),
    });
    report.layers[4].provenance.push(Provenance {
        pass: "equalize".to_owned(),
        change: "channels scaled by 0.5 to 2".to_owned(),
    });
    report.outputs[0].worst_samples = [(0, Some("photos/a.jpg".to_owned()), 33.1), (1, None, 34.0)]
        .map(|(index, file, sqnr_db)| WorstSample { index, file, sqnr_db })
        .to_vec();
    report.layers[4].worst_samples = report.outputs[0].worst_samples[1..].to_vec();
    report.outputs[0].slices[1].flips = Some(Flips {
        axis: 1,
        n: 40,
        top1: 7,
        top5: Some(2),
        mean_score_shift: -0.12,
    });
    let gate: Gate = "sqnr_db=20".parse().expect("invariant: a gate");
    report.gates = report.gate(&gate).iter().map(GateOutcome::result).collect();
    let share = |n_hits, (low, high)| Share {
        value: n_hits as f64 / 20.0,
        low,
        high,
        n_hits,
        n: 20,
    };
    let score = |precision: &str, share, agreement| PrecisionScore {
        precision: precision.to_owned(),
        metrics: BTreeMap::from([("top1".to_owned(), share)]),
        agreement,
    };
    report.accuracy = Some(Accuracy {
        task: "top1".to_owned(),
        output: "output0".to_owned(),
        labels: "labels.csv".to_owned(),
        scores: vec![
            score("float", share(18, (0.699, 0.972)), None),
            score("int8", share(17, (0.64, 0.948)), Some(share(19, (0.764, 0.991)))),
        ],
    });
    report.layers[4].seen = Some(ValueRange { min: -22.0, max: 1.5 });
    report.layers[4].effect = Some(Effect {
        share: 0.25,
        noise: 0.003,
        gain_db: 1.25,
        is_exact: true,
        ..Effect::default()
    });
    report.additivity = Some(Additivity {
        explained: 0.9,
        noise: 0.012,
        sqnr_db: 19.2,
        n_samples: 2,
        rank_correlation: None,
        pairs: vec![Pair {
            first: report.layers[3].name.clone(),
            second: report.layers[4].name.clone(),
            excess: -0.4,
        }],
    });
    report.findings[1].effect_db = Some(1.25);
    report.findings[1].tried = Some(Tried {
        number: 1,
        before_db: 19.2,
        after_db: 20.4,
        gain_db: 1.2,
        worst_before_db: 0.0,
        worst_after_db: 4.5,
        cost: 0.013,
    });
    // The device could not dump this one.
    report.layers[2].runtime = None;
    report.layers[3].views.alone = BTreeMap::from([("output0".to_owned(), metrics(1.0, 0.004))]);
    report.layers[3].views.rescued = BTreeMap::from([("output0".to_owned(), metrics(1.0, 0.02))]);
    report
}

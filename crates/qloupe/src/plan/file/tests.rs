//! Plans written and read again, and what is refused.

use super::super::format_plan;
use super::*;

fn plan() -> QuantPlan {
    let params = QuantParams::per_tensor(DType::Int8, 0.1, -3).unwrap();
    let value = |name: &str, precision, cast| ValuePlan {
        name: name.to_owned(),
        unit: "Conv+Relu".to_owned(),
        precision,
        cast,
        range: Some(Range { min: -1.5, max: 2.0 }),
        chosen: if name == "x:0" {
            "mse 0.1%, min_max 0.2%".to_owned()
        } else {
            String::new()
        },
    };
    let channels = Granularity::PerChannel { axis: 0 };
    let scales = QuantParams::new(DType::Int8, channels, vec![0.1, 1e-7], vec![0, 0]).unwrap();
    let activation_scales = QuantParams::new(DType::UInt16, channels, vec![0.5, 2.0], vec![3, 0]).unwrap();
    let blocks = Granularity::PerBlock {
        axis: 0,
        block_size: 32,
    };
    let block_scales = QuantParams::new(DType::UInt8, blocks, vec![0.5, 2.0], vec![3, 0]).unwrap();
    let outcome = "1 of 2 scales all_zero".to_owned();
    QuantPlan {
        target: "rk3588".to_owned(),
        algorithm: "min_max".to_owned(),
        method: Method::Channel,
        optimization_level: 3,
        n_samples: 20,
        values: vec![
            value("x:0", Precision::Quantized(params.clone()), None),
            value("a\"b\\c", Precision::SharedWith("x:0".to_owned()), None),
            value(
                "yy",
                Precision::Fp16 {
                    reason: "no kernel".to_owned(),
                },
                Some(Cast::Fixed(params)),
            ),
            value("channels", Precision::Quantized(activation_scales), None),
            value(
                "dynamic",
                Precision::Float {
                    reason: "quantized as it runs".to_owned(),
                },
                Some(Cast::Dynamic),
            ),
        ],
        weights: vec![
            WeightPlan {
                name: "w1".to_owned(),
                params: scales,
                outcome,
            },
            WeightPlan {
                name: "blocks".to_owned(),
                params: block_scales,
                outcome: String::new(),
            },
        ],
        optimized: Optimized {
            race: "mixed 20 dB".to_owned(),
            passes: vec![PassRecord {
                pass: "bias_correction".to_owned(),
                kept: true,
                evidence: "1 dB before".to_owned(),
            }],
            new_biases: [("conv".to_owned(), "conv_bias".to_owned())].into(),
            ..Optimized::default()
        },
    }
}

fn names() -> (Vec<String>, Vec<String>) {
    (
        plan().values.into_iter().map(|v| v.name).collect(),
        plan().weights.into_iter().map(|w| w.name).collect(),
    )
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let (values, weights) = names();
    assert_eq!(
        parse_plan(
            "p.toml",
            &format_plan(&plan(), None),
            &values,
            &weights,
            &PlanArrays::default()
        )
        .unwrap(),
        plan()
    );
}

#[test]
fn scalings_read_back_and_must_be_positive() {
    let mut scaled = plan();
    scaled.optimized.scalings = vec![Scaling {
        pass: "equalize_layers".to_owned(),
        values: vec!["a\"b".to_owned(), "c".to_owned()],
        axis: 1,
        scale: vec![0.1, 3.0],
    }];
    let text = format_plan(&scaled, None);
    assert_eq!(
        read_head("p.toml", &text).unwrap().scalings,
        scaled.optimized.scalings
    );
    let error = read_head(
        "p.toml",
        &text.replace("scale = [0.1, 3.0]", "scale = [0.1, -3.0]"),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "p.toml: scaling of [\"a\\\"b\", \"c\"]: expected positive, finite scales, one for each channel"
    );
}

#[test]
fn shifts_read_back_and_must_be_finite() {
    let mut shifted = plan();
    shifted.optimized.shifts = vec![Shift {
        pass: "absorb_biases".to_owned(),
        values: vec!["a".to_owned(), "b".to_owned()],
        shift: vec![0.0, 1.5],
    }];
    let text = format_plan(&shifted, None);
    assert_eq!(
        read_head("p.toml", &text).unwrap().shifts,
        shifted.optimized.shifts
    );
    let error = read_head(
        "p.toml",
        &text.replace("shift = [0.0, 1.5]", "shift = [0.0, inf]"),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "p.toml: shift of [\"a\", \"b\"]: expected finite numbers, one for each channel"
    );
}

#[test]
fn edits_that_make_no_sense_are_named() {
    struct Case {
        from: &'static str,
        to: &'static str,
        expected: &'static str,
    }
    let cases = [
        Case {
            from: "\"yy\" =",
            to: "\"yyy\" =",
            expected: "value \"yyy\" does not exist in the model, did you mean \"yy\"?",
        },
        Case {
            from: "\"fp16\"",
            to: "\"f16\"",
            expected: "value \"yy\": unknown precision \"f16\", did you mean \"fp16\"? expected one of int8, uint8, int16, uint16, w4a16, w8a16, fp16, float",
        },
        Case {
            from: "scale = 0.1, zero_point = -3, min",
            to: "min",
            expected: "value \"x:0\" is int8: scale and zero_point are missing",
        },
        Case {
            from: "scale = 0.1,",
            to: "scale = -0.1,",
            expected: "value \"x:0\": scale 0 is -0.1, expected a positive finite number",
        },
        Case {
            from: "shared_with = \"x:0\"",
            to: "shared_with = \"x:1\"",
            expected: "value \"a\"b\\c\": shared_with \"x:1\" does not exist in the model, did you mean \"x:0\"?",
        },
        Case {
            from: "shared_with = \"x:0\"",
            to: "shared_with = \"a\\\"b\\\\c\"",
            expected: "value \"a\"b\\c\": shared_with leads to no precision, expected a value that has one",
        },
        Case {
            from: "\"w1\" =",
            to: "\"w2\" =",
            expected: "weight \"w2\" does not exist in the model, did you mean \"w1\"?",
        },
        Case {
            from: "qloupe-plan/1",
            to: "qloupe-plan/9",
            expected: "wrong schema, expected \"qloupe-plan/1\", got \"qloupe-plan/9\"",
        },
    ];
    let (values, weights) = names();
    for case in cases {
        let header_end = format_plan(&plan(), None).find("[values]").unwrap();
        let (head, body) = (
            format_plan(&plan(), None)[..header_end].to_owned(),
            format_plan(&plan(), None)[header_end..].to_owned(),
        );
        let text = if head.contains(case.from) && case.from.starts_with("qloupe") {
            head.replacen(case.from, case.to, 1) + &body
        } else {
            head + &body.replacen(case.from, case.to, 1)
        };
        let error = parse_plan("p.toml", &text, &values, &weights, &PlanArrays::default())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!("p.toml: {}", case.expected),
            "{} -> {}",
            case.from,
            case.to
        );
    }
}

#[test]
fn raising_a_value_keeps_its_scale_for_integer_readers() {
    let (values, weights) = names();
    let text = format_plan(&plan(), None).replacen("precision = \"int8\"", "precision = \"fp16\"", 1);
    let raised = parse_plan("p.toml", &text, &values, &weights, &PlanArrays::default()).unwrap();
    assert_eq!(
        raised.values[0].precision,
        Precision::Fp16 {
            reason: "set by hand".to_owned()
        }
    );
    let forms = raised.forms();
    assert!(
        forms["x:0"].read_params().is_some(),
        "an integer reader casts with the calibrated scale"
    );
    assert_eq!(forms["a\"b\\c"], forms["x:0"], "a shared value follows");
}

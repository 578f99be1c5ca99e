//! The cases: operators with attributes and inputs whose gradients are compared.

use qloupe_ir::AttributeValue;
use qloupe_tensor::Tensor;

#[derive(Clone)]
pub(super) enum Input {
    /// An input whose gradient is compared.
    Data(Vec<usize>, Range),
    Constant(Tensor),
    Absent,
}

#[derive(Clone, Copy)]
pub(super) enum Range {
    Any,
    Positive,
    Small,
}

pub(super) struct Case {
    pub(super) op: &'static str,
    pub(super) opset: i64,
    pub(super) attributes: Vec<(&'static str, AttributeValue)>,
    pub(super) inputs: Vec<Input>,
    pub(super) n_outputs: usize,
}

/// Distinct numbers for up to 127 elements, in the middle between sixteenths.
pub(super) fn values(n: usize, seed: usize, range: Range) -> Vec<f32> {
    let number = |i: usize| {
        let k = f32::from(u8::try_from((i * 29 + seed * 11) % 127).expect("below 127"));
        match range {
            Range::Any => (k - 63.0) / 16.0 + 1.0 / 32.0,
            Range::Positive => k / 32.0 + 0.515_625,
            Range::Small => (k - 63.0) / 64.0 + 1.0 / 128.0,
        }
    };
    (0..n).map(number).collect()
}

pub(super) fn tensor(shape: &[usize], seed: usize, range: Range) -> Tensor {
    Tensor::new(shape, values(shape.iter().product(), seed, range)).unwrap()
}

pub(super) fn any(shape: &[usize]) -> Input {
    Input::Data(shape.to_vec(), Range::Any)
}

pub(super) fn positive(shape: &[usize]) -> Input {
    Input::Data(shape.to_vec(), Range::Positive)
}

pub(super) fn small(shape: &[usize]) -> Input {
    Input::Data(shape.to_vec(), Range::Small)
}

pub(super) fn weight(shape: &[usize]) -> Input {
    Input::Constant(tensor(shape, 5, Range::Small))
}

pub(super) fn scale(shape: &[usize]) -> Input {
    Input::Constant(tensor(shape, 3, Range::Positive))
}

pub(super) fn list(values: &[i64]) -> Input {
    Input::Constant(Tensor::vector(values.to_vec()))
}

pub(super) fn int(value: i64) -> AttributeValue {
    AttributeValue::Int(value)
}

pub(super) fn float(value: f32) -> AttributeValue {
    AttributeValue::Float(value)
}

pub(super) fn ints(values: &[i64]) -> AttributeValue {
    AttributeValue::Ints(values.to_vec())
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.as_bytes().to_vec())
}

pub(super) fn case(
    op: &'static str,
    attributes: Vec<(&'static str, AttributeValue)>,
    inputs: Vec<Input>,
) -> Case {
    let opset = 18;
    Case {
        op,
        opset,
        attributes,
        inputs,
        n_outputs: 1,
    }
}

pub(super) const IMAGE: &[usize] = &[1, 3, 5, 4];

pub(super) fn element_wise() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in [
        "Abs",
        "Cast",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    ] {
        let attributes = match op {
            "Cast" => vec![("to", int(1))],
            _ => vec![],
        };
        cases.push(case(op, attributes.clone(), vec![any(IMAGE)]));
        cases.push(case(op, attributes, vec![any(&[7])]));
    }
    for op in ["Log", "Sqrt", "Reciprocal"] {
        cases.push(case(op, vec![], vec![positive(IMAGE)]));
    }
    cases.push(case("Elu", vec![("alpha", float(0.5))], vec![any(IMAGE)]));
    cases.push(case(
        "Gelu",
        vec![("approximate", text("tanh"))],
        vec![any(IMAGE)],
    ));
    cases.push(case("HardSigmoid", vec![("alpha", float(0.5))], vec![any(IMAGE)]));
    cases.push(case("LeakyRelu", vec![("alpha", float(0.25))], vec![any(IMAGE)]));
    cases.push(case("CastLike", vec![], vec![any(IMAGE), weight(&[1])]));
    let bound = |v: f32| Input::Constant(Tensor::scalar(v));
    cases.push(case("Clip", vec![], vec![any(IMAGE), bound(-1.0), bound(2.0)]));
    cases.push(case("Clip", vec![], vec![any(IMAGE), Input::Absent, bound(2.0)]));
    let attributes = vec![("min", float(-1.0)), ("max", float(1.0))];
    cases.push(Case {
        opset: 6,
        ..case("Clip", attributes, vec![any(IMAGE)])
    });
    let shapes: [(&[usize], &[usize]); 7] = [
        (IMAGE, IMAGE),
        (IMAGE, &[1, 3, 1, 1]),
        (IMAGE, &[3, 1, 1]),
        (&[1, 3, 1, 1], IMAGE),
        (IMAGE, &[5, 1]),
        (&[2, 1, 3], &[4, 1]),
        (&[4], &[]),
    ];
    for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum", "Pow"] {
        for (a, b) in shapes {
            let inputs = match op {
                "Div" => vec![any(a), positive(b)],
                "Pow" => vec![positive(a), small(b)],
                // Values that differ by at least a sixty-fourth.
                "Min" | "Max" => vec![any(a), positive(b)],
                _ => vec![any(a), any(b)],
            };
            cases.push(case(op, vec![], inputs));
        }
    }
    cases.push(case("Sum", vec![], vec![any(&[2, 3]), any(&[3]), any(&[2, 1])]));
    cases.push(case(
        "Max",
        vec![],
        vec![any(&[2, 3]), positive(&[3]), small(&[2, 1])],
    ));
    for exponent in [2.0_f32, 3.0, 0.5, -1.0] {
        cases.push(case("Pow", vec![], vec![positive(IMAGE), bound(exponent)]));
    }
    cases.push(case("PRelu", vec![], vec![any(IMAGE), any(&[3, 1, 1])]));
    cases.push(case("PRelu", vec![], vec![any(&[2, 3]), weight(&[3])]));
    let condition = |shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        Input::Constant(Tensor::new(shape, (0..n).map(|i| i % 3 == 0).collect::<Vec<bool>>()).unwrap())
    };
    cases.push(case(
        "Where",
        vec![],
        vec![condition(IMAGE), any(IMAGE), any(&[3, 1, 1])],
    ));
    cases.push(case(
        "Where",
        vec![],
        vec![condition(&[5, 1]), any(IMAGE), any(IMAGE)],
    ));
    cases
}

pub(super) fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[4, 5], &[5, 3]),
        (&[2, 4, 5], &[5, 3]),
        (&[2, 1, 4, 5], &[3, 5, 2]),
        (&[5], &[5, 3]),
        (&[2, 4, 5], &[5]),
        (&[5], &[5]),
    ];
    for (a, b) in shapes {
        cases.push(case("MatMul", vec![], vec![any(a), small(b)]));
        cases.push(case("MatMul", vec![], vec![any(a), weight(b)]));
        cases.push(case("MatMul", vec![], vec![weight(a), any(b)]));
    }
    for (turn_a, turn_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let a: &[usize] = if turn_a == 1 { &[5, 4] } else { &[4, 5] };
        let b: &[usize] = if turn_b == 1 { &[3, 5] } else { &[5, 3] };
        let attributes = vec![
            ("transA", int(turn_a)),
            ("transB", int(turn_b)),
            ("alpha", float(0.5)),
            ("beta", float(2.0)),
        ];
        cases.push(case(
            "Gemm",
            attributes.clone(),
            vec![any(a), small(b), any(&[3])],
        ));
        cases.push(case(
            "Gemm",
            attributes.clone(),
            vec![any(a), weight(b), weight(&[4, 1])],
        ));
        cases.push(case("Gemm", attributes, vec![any(a), weight(b)]));
    }
    cases.push(case(
        "Gemm",
        vec![],
        vec![any(&[4, 5]), weight(&[5, 3]), any(&[4, 1])],
    ));
    cases
}

pub(super) fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    let attributes = |group: i64, strides: &[i64], dilations: &[i64], pads: &[i64]| {
        vec![
            ("group", int(group)),
            ("strides", ints(strides)),
            ("dilations", ints(dilations)),
            ("pads", ints(pads)),
        ]
    };
    struct Conv(
        i64,
        [i64; 2],
        [i64; 2],
        [i64; 4],
        &'static [usize],
        &'static [usize],
    );
    let table = [
        Conv(1, [1, 1], [1, 1], [0, 0, 0, 0], &[1, 3, 5, 4], &[2, 3, 3, 2]),
        Conv(1, [1, 1], [1, 1], [0, 0, 0, 0], &[1, 4, 3, 4], &[9, 4, 1, 1]),
        Conv(1, [1, 1], [1, 1], [1, 1, 1, 1], &[2, 3, 5, 4], &[4, 3, 3, 3]),
        Conv(1, [1, 1], [2, 1], [2, 1, 2, 1], &[1, 2, 5, 5], &[4, 2, 3, 3]),
        Conv(1, [2, 2], [1, 1], [1, 1, 1, 1], &[1, 2, 7, 6], &[4, 2, 3, 3]),
        Conv(1, [3, 2], [1, 2], [0, 1, 1, 0], &[1, 2, 8, 7], &[3, 2, 2, 2]),
        Conv(1, [2, 2], [1, 1], [0, 0, 0, 0], &[1, 3, 6, 7], &[4, 3, 1, 1]),
        Conv(2, [1, 1], [1, 1], [1, 0, 0, 1], &[1, 4, 5, 4], &[6, 2, 2, 3]),
        Conv(2, [2, 1], [1, 1], [1, 1, 1, 1], &[1, 4, 6, 4], &[2, 2, 3, 3]),
        Conv(4, [1, 1], [1, 1], [1, 1, 1, 1], &[1, 4, 5, 4], &[4, 1, 3, 3]),
        Conv(4, [2, 2], [1, 1], [1, 1, 1, 1], &[1, 4, 6, 5], &[4, 1, 3, 3]),
        Conv(4, [2, 2], [1, 1], [0, 0, 1, 1], &[1, 4, 6, 5], &[4, 1, 3, 3]),
        Conv(4, [2, 1], [1, 2], [2, 2, 2, 2], &[1, 4, 5, 6], &[4, 1, 3, 3]),
        Conv(3, [2, 2], [1, 1], [1, 1, 1, 1], &[1, 3, 5, 5], &[6, 1, 3, 3]),
        Conv(1, [1, 1], [1, 1], [2, 3, 2, 3], &[1, 2, 4, 4], &[3, 2, 2, 2]),
    ];
    for Conv(group, strides, dilations, pads, x, w) in table {
        let attributes = attributes(group, &strides, &dilations, &pads);
        cases.push(case("Conv", attributes, vec![any(x), weight(w), weight(&w[..1])]));
    }
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let attributes = vec![("auto_pad", text(auto_pad)), ("strides", ints(&[2, 2]))];
        cases.push(case(
            "Conv",
            attributes,
            vec![any(&[1, 2, 6, 5]), weight(&[3, 2, 3, 3])],
        ));
    }
    let line = attributes(1, &[2], &[1], &[1, 2]);
    cases.push(case("Conv", line, vec![any(&[2, 3, 7]), weight(&[4, 3, 3])]));
    let line = attributes(3, &[1], &[2], &[2, 2]);
    cases.push(case("Conv", line, vec![any(&[1, 3, 7]), weight(&[3, 1, 3])]));
    struct Transposed(
        i64,
        [i64; 2],
        [i64; 4],
        [i64; 2],
        &'static [usize],
        &'static [usize],
    );
    let table = [
        Transposed(1, [1, 1], [0, 0, 0, 0], [0, 0], &[1, 3, 3, 4], &[3, 2, 3, 2]),
        Transposed(1, [2, 2], [1, 1, 1, 1], [1, 1], &[1, 3, 3, 4], &[3, 2, 3, 3]),
        Transposed(1, [2, 2], [0, 0, 0, 0], [0, 0], &[2, 2, 3, 3], &[2, 4, 2, 2]),
        Transposed(2, [2, 3], [1, 0, 0, 1], [0, 1], &[1, 4, 3, 3], &[4, 2, 3, 4]),
    ];
    for Transposed(group, strides, pads, output_padding, x, w) in table {
        let mut attributes = attributes(group, &strides, &[1, 1], &pads);
        attributes.push(("output_padding", ints(&output_padding)));
        cases.push(case("ConvTranspose", attributes, vec![any(x), weight(w)]));
    }
    let line = attributes(1, &[2], &[1], &[1, 1]);
    cases.push(case(
        "ConvTranspose",
        line,
        vec![any(&[1, 3, 5]), weight(&[3, 2, 3])],
    ));
    cases
}

pub(super) fn windows_and_rows() -> Vec<Case> {
    let mut cases = Vec::new();
    let window = |kernel: &[i64], strides: &[i64], pads: &[i64]| {
        vec![
            ("kernel_shape", ints(kernel)),
            ("strides", ints(strides)),
            ("pads", ints(pads)),
        ]
    };
    for op in ["MaxPool", "AveragePool"] {
        cases.push(case(
            op,
            window(&[2, 2], &[2, 2], &[0, 0, 0, 0]),
            vec![any(&[1, 3, 6, 5])],
        ));
        cases.push(case(
            op,
            window(&[3, 3], &[1, 1], &[1, 1, 1, 1]),
            vec![any(IMAGE)],
        ));
        cases.push(case(op, window(&[3], &[2], &[1, 1]), vec![any(&[2, 3, 7])]));
        let mut ceil = window(&[3, 2], &[2, 2], &[0, 0, 0, 0]);
        ceil.push(("ceil_mode", int(1)));
        cases.push(case(op, ceil, vec![any(&[1, 2, 6, 5])]));
    }
    let mut with_padding = window(&[3, 3], &[2, 2], &[1, 1, 1, 1]);
    with_padding.push(("count_include_pad", int(1)));
    cases.push(case("AveragePool", with_padding, vec![any(IMAGE)]));
    for op in ["GlobalAveragePool", "GlobalMaxPool"] {
        cases.push(case(op, vec![], vec![any(&[2, 3, 4, 5])]));
        cases.push(case(op, vec![], vec![any(&[2, 3, 6])]));
    }
    for op in ["Softmax", "LogSoftmax"] {
        cases.push(case(op, vec![], vec![any(&[3, 5])]));
        cases.push(case(op, vec![("axis", int(1))], vec![any(IMAGE)]));
        cases.push(Case {
            opset: 11,
            ..case(op, vec![("axis", int(1))], vec![small(&[2, 3, 2])])
        });
    }
    let rows = vec![any(&[3, 4, 8]), scale(&[8]), weight(&[8])];
    cases.push(case("LayerNormalization", vec![], rows));
    let rows = vec![any(&[3, 4, 5]), scale(&[4, 5])];
    cases.push(case("LayerNormalization", vec![("axis", int(1))], rows));
    for (op, opset) in [("RMSNormalization", 23), ("SimplifiedLayerNormalization", 18)] {
        cases.push(Case {
            opset,
            ..case(op, vec![], vec![any(&[3, 8]), scale(&[8])])
        });
    }
    let channels = || vec![any(&[2, 3, 4, 4]), scale(&[3]), weight(&[3])];
    cases.push(case("InstanceNormalization", vec![], channels()));
    cases.push(case(
        "GroupNormalization",
        vec![("num_groups", int(2))],
        vec![any(&[2, 4, 3, 3]), scale(&[2]), weight(&[2])],
    ));
    cases.push(Case {
        opset: 21,
        ..case(
            "GroupNormalization",
            vec![("num_groups", int(2))],
            vec![any(&[2, 4, 3, 3]), scale(&[4]), weight(&[4])],
        )
    });
    for shape in [&[2, 3, 4, 4][..], &[2, 3, 5], &[4, 3]] {
        let parameters = [scale(&[3]), weight(&[3]), weight(&[3]), scale(&[3])];
        let inputs = std::iter::once(any(shape)).chain(parameters).collect();
        cases.push(case("BatchNormalization", vec![], inputs));
    }
    for op in [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceSumSquare",
    ] {
        cases.push(case(op, vec![], vec![small(&[2, 3, 4]), list(&[1])]));
        cases.push(case(
            op,
            vec![("keepdims", int(0))],
            vec![small(&[2, 3, 4]), list(&[0, -1])],
        ));
        cases.push(case(op, vec![], vec![small(IMAGE)]));
    }
    cases
}

pub(super) fn movements() -> Vec<Case> {
    let indices =
        |shape: &[usize], values: &[i64]| Input::Constant(Tensor::new(shape, values.to_vec()).unwrap());
    let floats = |values: &[f32]| Input::Constant(Tensor::vector(values.to_vec()));
    let mut cases = vec![
        case(
            "Concat",
            vec![("axis", int(1))],
            vec![any(IMAGE), any(&[1, 2, 5, 4])],
        ),
        case(
            "Concat",
            vec![("axis", int(-1))],
            vec![any(&[2, 3]), any(&[2, 1]), weight(&[2, 2])],
        ),
        case("Reshape", vec![], vec![any(IMAGE), list(&[3, -1])]),
        case("Flatten", vec![("axis", int(2))], vec![any(IMAGE)]),
        case("Squeeze", vec![], vec![any(IMAGE), list(&[0])]),
        case("Unsqueeze", vec![], vec![any(&[2, 3, 4]), list(&[0])]),
        case("Transpose", vec![("perm", ints(&[0, 2, 3, 1]))], vec![any(IMAGE)]),
        case(
            "Transpose",
            vec![("perm", ints(&[2, 0, 1]))],
            vec![any(&[2, 3, 4])],
        ),
        case("Expand", vec![], vec![any(&[3, 1]), list(&[2, 1, 4])]),
        case("Tile", vec![], vec![any(&[2, 3]), list(&[2, 3])]),
        case(
            "Gather",
            vec![("axis", int(1))],
            vec![any(&[2, 4, 3]), indices(&[2, 2], &[0, -1, 0, 2])],
        ),
        case(
            "GatherElements",
            vec![],
            vec![any(&[3, 2]), indices(&[2, 2], &[0, 2, 2, 2])],
        ),
        case(
            "GatherND",
            vec![],
            vec![any(&[3, 2, 2]), indices(&[2, 2], &[0, 1, 0, 1])],
        ),
        case(
            "Slice",
            vec![],
            vec![
                any(IMAGE),
                list(&[1, 3]),
                list(&[3, -5]),
                list(&[1, 3]),
                list(&[1, -2]),
            ],
        ),
        case("Slice", vec![], vec![any(&[6]), list(&[1]), list(&[5])]),
        case("Trilu", vec![("upper", int(0))], vec![any(&[2, 3, 3])]),
        case(
            "DepthToSpace",
            vec![("blocksize", int(2))],
            vec![any(&[1, 8, 2, 3])],
        ),
        case(
            "SpaceToDepth",
            vec![("blocksize", int(2))],
            vec![any(&[1, 3, 4, 6])],
        ),
    ];
    for mode in ["constant", "edge", "reflect", "wrap"] {
        let pads = list(&[0, 0, 1, 2, 0, 0, 2, 1]);
        let fill = Input::Constant(Tensor::scalar(1.0_f32));
        let inputs = if mode == "constant" {
            vec![any(IMAGE), pads, fill]
        } else {
            vec![any(IMAGE), pads]
        };
        cases.push(Case {
            opset: 19,
            ..case("Pad", vec![("mode", text(mode))], inputs)
        });
    }
    cases.push(Case {
        opset: 9,
        ..case(
            "Pad",
            vec![("pads", ints(&[1, 0, -1, 1])), ("value", float(2.0))],
            vec![any(&[3, 2])],
        )
    });
    cases.push(Case {
        n_outputs: 3,
        ..case(
            "Split",
            vec![("axis", int(1))],
            vec![any(&[1, 6, 3, 2]), list(&[1, 3, 2])],
        )
    });
    for (mode, coordinates) in [
        ("nearest", "asymmetric"),
        ("nearest", "half_pixel"),
        ("linear", "half_pixel"),
        ("linear", "align_corners"),
        ("cubic", "pytorch_half_pixel"),
    ] {
        for scales in [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.6, 1.5]] {
            let attributes = vec![
                ("mode", text(mode)),
                ("coordinate_transformation_mode", text(coordinates)),
            ];
            cases.push(case(
                "Resize",
                attributes,
                vec![any(IMAGE), Input::Absent, floats(&scales)],
            ));
        }
    }
    cases.push(Case {
        opset: 9,
        ..case(
            "Upsample",
            vec![("mode", text("nearest"))],
            vec![any(IMAGE), floats(&[1.0, 1.0, 2.0, 2.0])],
        )
    });
    cases.push(Case {
        opset: 9,
        ..case(
            "Upsample",
            vec![("mode", text("linear"))],
            vec![any(IMAGE), floats(&[1.0, 1.0, 2.0, 2.0])],
        )
    });
    cases
}

pub(super) fn all_cases() -> Vec<Case> {
    [
        element_wise(),
        products(),
        convolutions(),
        windows_and_rows(),
        movements(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

//! Vector-Jacobian products against central differences of the operators' own results: every operator that has one, in both
//! physical orders.

#[cfg(test)]
mod gradients {
    use std::collections::{BTreeMap, BTreeSet};

    use qloupe_exec::{Backward, Program, Value, ops};
    use qloupe_ir::{AttributeValue, Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::Tensor;

    /// Half the distance of a central difference. Kinks are at multiples of a sixteenth, values in the middle between.
    const STEP: f32 = 1.0 / 128.0;
    /// Largest allowed difference, relative to the largest gradient: rounding of float32 over the step, and curvature.
    const TOLERANCE: f64 = 4e-3;

    #[derive(Clone)]
    enum Input {
        /// An input whose gradient is compared.
        Data(Vec<usize>, Range),
        Constant(Tensor),
        Absent,
    }

    #[derive(Clone, Copy)]
    enum Range {
        Any,
        Positive,
        Small,
    }

    struct Case {
        op: &'static str,
        opset: i64,
        attributes: Vec<(&'static str, AttributeValue)>,
        inputs: Vec<Input>,
        n_outputs: usize,
    }

    /// Distinct numbers for up to 127 elements, in the middle between sixteenths.
    fn values(n: usize, seed: usize, range: Range) -> Vec<f32> {
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

    fn tensor(shape: &[usize], seed: usize, range: Range) -> Tensor {
        Tensor::new(shape, values(shape.iter().product(), seed, range)).unwrap()
    }

    fn any(shape: &[usize]) -> Input {
        Input::Data(shape.to_vec(), Range::Any)
    }

    fn positive(shape: &[usize]) -> Input {
        Input::Data(shape.to_vec(), Range::Positive)
    }

    fn small(shape: &[usize]) -> Input {
        Input::Data(shape.to_vec(), Range::Small)
    }

    fn weight(shape: &[usize]) -> Input {
        Input::Constant(tensor(shape, 5, Range::Small))
    }

    fn scale(shape: &[usize]) -> Input {
        Input::Constant(tensor(shape, 3, Range::Positive))
    }

    fn list(values: &[i64]) -> Input {
        Input::Constant(Tensor::vector(values.to_vec()))
    }

    fn int(value: i64) -> AttributeValue {
        AttributeValue::Int(value)
    }

    fn float(value: f32) -> AttributeValue {
        AttributeValue::Float(value)
    }

    fn ints(values: &[i64]) -> AttributeValue {
        AttributeValue::Ints(values.to_vec())
    }

    fn text(value: &str) -> AttributeValue {
        AttributeValue::String(value.as_bytes().to_vec())
    }

    fn case(op: &'static str, attributes: Vec<(&'static str, AttributeValue)>, inputs: Vec<Input>) -> Case {
        let opset = 18;
        Case {
            op,
            opset,
            attributes,
            inputs,
            n_outputs: 1,
        }
    }

    const IMAGE: &[usize] = &[1, 3, 5, 4];

    fn element_wise() -> Vec<Case> {
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

    fn products() -> Vec<Case> {
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

    fn convolutions() -> Vec<Case> {
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

    fn windows_and_rows() -> Vec<Case> {
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

    fn movements() -> Vec<Case> {
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

    fn all_cases() -> Vec<Case> {
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

    /// A graph of the node; a depthwise convolution before an input of rank 4 makes it NHWC.
    fn model(case: &Case, nhwc: bool) -> (Model, Vec<(String, Tensor)>) {
        let mut graph = Graph::default();
        let mut data = Vec::new();
        let mut names = Vec::new();
        for (idx, input) in case.inputs.iter().enumerate() {
            let name = format!("x{idx}");
            let mut initializer = |name: &str, value: &Tensor| {
                graph.initializers.push(Initializer {
                    name: name.to_owned(),
                    value: value.clone().into(),
                });
            };
            match input {
                Input::Absent => {
                    names.push(String::new());
                    continue;
                }
                Input::Constant(value) => initializer(&name, value),
                Input::Data(shape, range) => {
                    data.push((name.clone(), tensor(shape, idx, *range)));
                    let outer = format!("{name}_outer");
                    if let (true, &[_, c, _, _]) = (nhwc, shape.as_slice()) {
                        let ones = Tensor::new(&[c, 1, 1, 1], vec![1.0_f32; c]).unwrap();
                        initializer(&format!("{name}_ones"), &ones);
                        let ones = format!("{name}_ones");
                        let node = Node::new("Conv", "", &[&outer, &ones], &[&name]);
                        graph.nodes.push(
                            node.with_attribute("group", int(i64::try_from(c).expect("a small number"))),
                        );
                        graph.inputs.push(ValueInfo::untyped(&outer));
                    } else {
                        graph.inputs.push(ValueInfo::untyped(&name));
                    }
                }
            }
            names.push(name);
        }
        let outputs: Vec<String> = (0..case.n_outputs).map(|idx| format!("y{idx}")).collect();
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let borrowed: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let mut node = Node::new(case.op, "", &inputs, &borrowed);
        for (name, value) in &case.attributes {
            node = node.with_attribute(name, value.clone());
        }
        graph.nodes.push(node);
        graph.outputs = outputs.iter().map(|name| ValueInfo::untyped(name)).collect();
        let model = Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: case.opset,
            }],
            graph,
            ..Model::default()
        };
        (model, data)
    }

    type Named = BTreeMap<String, Tensor>;

    /// All values of a run.
    fn golden(program: &Program, inputs: &[(String, Tensor)]) -> BTreeMap<String, Value> {
        let goals: Vec<&str> = program.graph().outputs.iter().map(|o| o.name.as_str()).collect();
        let mut walk = program.walk(inputs.to_vec(), &goals).unwrap();
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        for (name, tensor) in inputs {
            values.insert(name.clone(), tensor.clone().into());
        }
        while let Some(stepped) = walk.step().unwrap() {
            for (name, value) in stepped.outputs {
                values.insert(name.to_owned(), value);
            }
        }
        values
    }

    fn backward(
        program: &Program,
        inputs: &[(String, Tensor)],
        seeds: &[Vec<(String, Tensor)>],
    ) -> Vec<Named> {
        let values = golden(program, inputs);
        let mut gradients = vec![Named::new(); seeds.len()];
        let incomplete = Backward::new(program)
            .unwrap()
            .run(
                &mut |name| Ok(values[name].clone()),
                seeds,
                &mut |name, of_seeds| {
                    for (gradients, gradient) in gradients.iter_mut().zip(of_seeds) {
                        if let Some(gradient) = gradient {
                            gradients.insert(name.to_owned(), gradient.to_plain().clone());
                        }
                    }
                },
            )
            .unwrap();
        assert_eq!(incomplete, [], "nothing is in the way");
        gradients
    }

    fn seeds_of(program: &Program, inputs: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
        let outputs = program.run(inputs.to_vec()).unwrap();
        outputs
            .into_iter()
            .enumerate()
            .map(|(i, (name, y))| (name, tensor(y.shape(), i + 7, Range::Small)))
            .collect()
    }

    /// The sum of the outputs times the seeds.
    fn loss(program: &Program, inputs: Vec<(String, Tensor)>, seeds: &[(String, Tensor)]) -> f64 {
        let outputs = program.run(inputs).unwrap();
        let mut sum = 0.0;
        for ((_, y), (_, seed)) in outputs.iter().zip(seeds) {
            let pairs = y
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .zip(seed.as_slice::<f32>().unwrap());
            sum += pairs.map(|(&y, &s)| f64::from(y) * f64::from(s)).sum::<f64>();
        }
        sum
    }

    /// The central difference of element `at` of input `idx`.
    fn difference(
        program: &Program,
        inputs: &[(String, Tensor)],
        seeds: &[(String, Tensor)],
        idx: usize,
        at: usize,
    ) -> f64 {
        let moved = |step: f32| {
            let mut inputs = inputs.to_vec();
            let x = &inputs[idx].1;
            let mut values = x.as_slice::<f32>().unwrap().to_vec();
            values[at] += step;
            inputs[idx].1 = Tensor::new(x.shape(), values).unwrap();
            loss(program, inputs, seeds)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP))
    }

    /// What is wrong with a case, if anything.
    fn compare(case: &Case, nhwc: bool) -> Option<String> {
        let (model, data) = model(case, nhwc);
        let program = Program::new(&model).unwrap();
        let renamed = |name: &str| {
            let outer = format!("{name}_outer");
            let is_outer = program.values().any(|value| value == outer);
            if is_outer { outer } else { name.to_owned() }
        };
        let inputs: Vec<(String, Tensor)> = data.iter().map(|(name, x)| (renamed(name), x.clone())).collect();
        let seeds = seeds_of(&program, &inputs);
        let gradients = backward(&program, &inputs, std::slice::from_ref(&seeds)).remove(0);
        for (idx, (name, x)) in data.iter().enumerate() {
            let Some(gradient) = gradients.get(name) else {
                return Some(format!("no gradient of {name}"));
            };
            if gradient.shape() != x.shape() {
                return Some(format!(
                    "{name}: shape {:?}, got {:?}",
                    x.shape(),
                    gradient.shape()
                ));
            }
            let got = gradient.as_slice::<f32>().unwrap();
            let expected: Vec<f64> = (0..x.len())
                .map(|at| difference(&program, &inputs, &seeds, idx, at))
                .collect();
            let largest = expected.iter().fold(0.1, |m: f64, v| m.max(v.abs()));
            for (at, (&got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = (f64::from(got) - expected).abs();
                if error.is_nan() || error > TOLERANCE * largest {
                    return Some(format!("{name}[{at}]: expected {expected}, got {got}"));
                }
            }
        }
        None
    }

    #[test]
    fn every_case_agrees_with_central_differences() {
        let mut failures = Vec::new();
        for (idx, case) in all_cases().iter().enumerate() {
            for nhwc in [false, true] {
                if let Some(failure) = compare(case, nhwc) {
                    failures.push(format!("{} (case {idx}, nhwc {nhwc}): {failure}", case.op));
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    fn constant(name: &str, value: Tensor) -> Initializer {
        Initializer {
            name: name.to_owned(),
            value: value.into(),
        }
    }

    /// A network with a residual, a gate that squeezes, values with several consumers, and a shape that is computed.
    fn network() -> Model {
        let w = |shape: &[usize], seed: usize| tensor(shape, seed, Range::Small);
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y"), ValueInfo::untyped("f")],
            nodes: vec![
                Node::new("Conv", "n0", &["x", "w0"], &["a"]),
                Node::new("Sigmoid", "n1", &["a"], &["b"]),
                Node::new("Mul", "n2", &["a", "b"], &["c"]),
                Node::new("Conv", "n3", &["c", "w1"], &["d"]).with_attribute("group", int(4)),
                Node::new("GlobalAveragePool", "n4", &["d"], &["e"]),
                Node::new("Mul", "n5", &["d", "e"], &["f"]),
                Node::new("Add", "n6", &["f", "c"], &["g"]),
                Node::new("Shape", "n7", &["g"], &["s"]),
                Node::new("Gather", "n8", &["s", "first"], &["batch"]),
                Node::new("Concat", "n9", &["batch", "rest"], &["shape"]).with_attribute("axis", int(0)),
                Node::new("Reshape", "n10", &["g", "shape"], &["h"]),
                Node::new("MatMul", "n11", &["h", "w2"], &["i"]),
                Node::new("Softmax", "n12", &["i"], &["y"]),
            ],
            initializers: vec![
                constant("w0", w(&[4, 3, 2, 2], 1)),
                constant("w1", w(&[4, 1, 1, 1], 2)),
                constant("w2", w(&[80, 5], 3)),
                constant("first", Tensor::vector(vec![0_i64])),
                constant("rest", Tensor::vector(vec![-1_i64])),
            ],
            ..Graph::default()
        };
        Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            graph,
            ..Model::default()
        }
    }

    fn network_inputs() -> Vec<(String, Tensor)> {
        vec![("x".to_owned(), tensor(&[1, 3, 6, 5], 4, Range::Small))]
    }

    #[test]
    fn a_network_agrees_with_central_differences() {
        let program = Program::new(&network()).unwrap();
        let inputs = network_inputs();
        let seeds = seeds_of(&program, &inputs);
        let gradients = backward(&program, &inputs, std::slice::from_ref(&seeds)).remove(0);
        let names: Vec<&str> = gradients.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "x", "y"]);
        let got = gradients["x"].as_slice::<f32>().unwrap();
        let largest = got.iter().fold(0.0_f64, |m, &v| m.max(f64::from(v).abs()));
        for (at, &got) in got.iter().enumerate() {
            let expected = difference(&program, &inputs, &seeds, 0, at);
            let error = (f64::from(got) - expected).abs();
            assert!(
                error <= TOLERANCE * largest,
                "x[{at}]: expected {expected}, got {got}"
            );
        }
    }

    #[test]
    fn threads_and_other_seeds_do_not_change_the_bits() {
        let program = Program::new(&network()).unwrap();
        let inputs = network_inputs();
        let outputs = program.run(inputs.clone()).unwrap();
        let seed = |k: usize| -> Vec<(String, Tensor)> {
            let of = |(name, y): &(String, Tensor)| (name.clone(), tensor(y.shape(), k, Range::Any));
            outputs.iter().map(of).collect()
        };
        let seeds: Vec<_> = (0..3).map(seed).collect();
        let bits = |gradients: &Named| -> Vec<(String, Vec<u32>)> {
            let of = |x: &Tensor| x.as_slice::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
            gradients.iter().map(|(name, x)| (name.clone(), of(x))).collect()
        };
        let run = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(n_threads)
                .build()
                .unwrap();
            pool.install(|| backward(&program, &inputs, &seeds))
        };
        let one = run(1);
        for n_threads in [2, 3] {
            for (one, more) in one.iter().zip(run(n_threads)) {
                assert_eq!(bits(one), bits(&more), "{n_threads} threads");
            }
        }
        for (together, seed) in one.iter().zip(&seeds) {
            let alone = backward(&program, &inputs, std::slice::from_ref(seed)).remove(0);
            assert_eq!(bits(together), bits(&alone), "a seed alone");
        }
    }

    #[test]
    fn what_a_node_without_a_product_hides_is_named() {
        let mut model = network();
        let top = Node::new("TopK", "top", &["h", "k"], &["j", "places"]);
        model.graph.nodes.insert(11, top);
        model.graph.nodes[12].inputs[0] = "j".to_owned();
        model
            .graph
            .initializers
            .push(constant("k", Tensor::vector(vec![80_i64])));
        let program = Program::new(&model).unwrap();
        let inputs = network_inputs();
        let values = golden(&program, &inputs);
        let run = |output: &str| {
            let y = values[output].as_tensor().unwrap().to_plain();
            let seeds = [vec![(output.to_owned(), tensor(y.shape(), 1, Range::Any))]];
            let mut seen = Vec::new();
            let incomplete = Backward::new(&program).unwrap().run(
                &mut |name| Ok(values[name].clone()),
                &seeds,
                &mut |name, _| seen.push(name.to_owned()),
            );
            (seen, incomplete.unwrap())
        };
        let (seen, incomplete) = run("y");
        assert_eq!(seen, ["y", "i", "j"]);
        assert!(incomplete.iter().all(|i| i.node == "top"), "{incomplete:?}");
        let hidden: Vec<&str> = incomplete.iter().map(|i| i.value.as_str()).collect();
        assert_eq!(hidden, ["x", "a", "b", "c", "d", "e", "f", "g", "h"]);
        let (seen, incomplete) = run("f");
        assert_eq!(
            seen,
            ["f", "e", "d", "c", "b", "a", "x"],
            "TopK is not on the way"
        );
        assert_eq!(incomplete, []);
    }

    #[test]
    fn a_seed_of_another_shape_is_refused() {
        let program = Program::new(&network()).unwrap();
        let values = golden(&program, &network_inputs());
        let run = |name: &str, seed: Tensor| {
            let seeds = [vec![(name.to_owned(), seed)]];
            let backward = Backward::new(&program).unwrap();
            let result = backward.run(&mut |name| Ok(values[name].clone()), &seeds, &mut |_, _| ());
            result.unwrap_err().to_string()
        };
        assert_eq!(
            run("y", Tensor::vector(vec![0.0_f32; 5])),
            "gradient of value \"y\" does not fit, expected float32 of shape [1, 5], got float32 of shape [5]"
        );
        assert_eq!(
            run("yy", Tensor::scalar(0.0_f32)),
            "value \"yy\" does not exist in the graph, did you mean \"y\"?"
        );
    }

    #[test]
    fn every_differentiable_operator_has_a_case() {
        let cases: BTreeSet<&str> = all_cases().iter().map(|case| case.op).collect();
        let differentiable: BTreeSet<&str> = ops::ALL
            .iter()
            .filter(|op| op.as_differentiable().is_some())
            .map(|op| op.op_type())
            .collect();
        assert_eq!(cases, differentiable);
    }
}

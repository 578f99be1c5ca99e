//! What exporters write: each model is loaded from a file, run, prepared for a target, and written and run again.

#[cfg(test)]
mod exporters {
    use qloupe::prepare::{Crop, Network, Prepared, load_model};
    use qloupe::targets;
    use qloupe_ir::{
        AttributeValue, Dim, Extra, Graph, Initializer, Model, Node, OpsetImport, TensorType, ValueInfo,
    };
    use qloupe_onnx::write_model;
    use qloupe_tensor::{DType, Tensor};

    /// The output `y` of `x + w` where `w` is [10, 20].
    const SUM: &[(&str, &[f32])] = &[("y", &[11.0, 18.0])];

    /// A model of one float32 input of shape [2] that is fed [1, -2].
    struct Case {
        what: &'static str,
        input: &'static str,
        nodes: Vec<Node>,
        initializers: Vec<Initializer>,
        /// Initializers that are listed as inputs too.
        listed: &'static [&'static str],
        outputs: &'static [(&'static str, &'static [f32])],
    }

    impl Case {
        fn new(
            what: &'static str,
            nodes: Vec<Node>,
            initializers: Vec<Initializer>,
            outputs: &'static [(&'static str, &'static [f32])],
        ) -> Self {
            Self {
                what,
                input: "x",
                nodes,
                initializers,
                listed: &[],
                outputs,
            }
        }

        fn model(&self) -> Model {
            let info = |name: &str, shape: Option<Vec<Dim>>| {
                let ty = TensorType {
                    dtype: Some(DType::Float32),
                    shape,
                    extra: Extra::default(),
                };
                ValueInfo::tensor(name, ty)
            };
            let listed = self.listed.iter().map(|name| info(name, None));
            let fed = info(self.input, Some(vec![Dim::Known(2)]));
            Model {
                ir_version: 8,
                opset_imports: vec![OpsetImport {
                    domain: String::new(),
                    version: 17,
                }],
                graph: Graph {
                    inputs: [fed].into_iter().chain(listed).collect(),
                    outputs: self.outputs.iter().map(|(name, _)| info(name, None)).collect(),
                    nodes: self.nodes.clone(),
                    initializers: self.initializers.clone(),
                    ..Graph::default()
                },
                ..Model::default()
            }
        }
    }

    fn initializer(name: &str, tensor: Tensor) -> Initializer {
        Initializer {
            name: name.to_owned(),
            value: tensor.into(),
        }
    }

    fn floats(values: &[f32]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    /// Loads a model and runs it.
    fn run(path: &std::path::Path, case: &Case) -> Network {
        let model = load_model(path, &Crop::default()).unwrap();
        let network = Network::new(case.what.to_owned(), model).unwrap();
        let inputs = vec![(case.input.to_owned(), floats(&[1.0, -2.0]))];
        let outputs = network.program.run(inputs).unwrap();
        let got: Vec<(&str, &[f32])> = outputs
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.as_slice::<f32>().unwrap()))
            .collect();
        assert_eq!(got, case.outputs, "{}", case.what);
        network
    }

    #[test]
    fn models_of_every_habit_run() {
        let node = Node::new;
        let add = || node("Add", "add", &["x", "w"], &["y"]);
        let value =
            |name: &str, value: AttributeValue| node("Constant", "", &[], &["w"]).with_attribute(name, value);
        let w = || initializer("w", floats(&[10.0, 20.0]));
        let cases = [
            Case::new(
                "weights in a Constant node",
                vec![
                    value("value", AttributeValue::Tensor(floats(&[10.0, 20.0]).into())),
                    add(),
                ],
                vec![],
                SUM,
            ),
            Case::new(
                "weights in a list of floats",
                vec![
                    value("value_floats", AttributeValue::Floats(vec![10.0, 20.0])),
                    add(),
                ],
                vec![],
                SUM,
            ),
            Case {
                listed: &["w"],
                ..Case::new(
                    "an initializer that is listed as input",
                    vec![add()],
                    vec![w()],
                    SUM,
                )
            },
            Case::new(
                "an initializer that nothing uses",
                vec![add()],
                vec![w(), initializer("unused", floats(&[f32::INFINITY]))],
                SUM,
            ),
            Case::new("an initializer stored twice", vec![add()], vec![w(), w()], SUM),
            Case {
                input: "scope/x:0",
                ..Case::new(
                    "names with every kind of letter",
                    vec![
                        node(
                            "Add",
                            "a/b:0 c",
                            &["scope/x:0", "w"],
                            &["\u{e9} \u{4f60}\u{597d}\u{1f40d}"],
                        ),
                        node(
                            "Relu",
                            "a/b:0 c",
                            &["\u{e9} \u{4f60}\u{597d}\u{1f40d}"],
                            &["../y\\\"'"],
                        ),
                    ],
                    vec![w()],
                    &[("../y\\\"'", &[11.0, 18.0])],
                )
            },
            Case::new(
                "an optional input that is left out",
                vec![node("Clip", "clip", &["x", "", "w"], &["y"])],
                vec![initializer("w", Tensor::scalar(0.5_f32))],
                &[("y", &[0.5, -2.0])],
            ),
            Case::new(
                "an optional output that is left out",
                vec![node("Dropout", "drop", &["x"], &["y", ""])],
                vec![],
                &[("y", &[1.0, -2.0])],
            ),
            Case::new(
                "a scalar",
                vec![add()],
                vec![initializer("w", Tensor::scalar(10.0_f32))],
                &[("y", &[11.0, 8.0])],
            ),
            Case::new(
                "a tensor without elements",
                vec![
                    node("Concat", "concat", &["x", "w", "x"], &["y"])
                        .with_attribute("axis", AttributeValue::Int(0)),
                ],
                vec![initializer("w", floats(&[]))],
                &[("y", &[1.0, -2.0, 1.0, -2.0])],
            ),
            Case::new(
                "nodes out of order",
                vec![
                    node("Relu", "relu", &["s"], &["y"]),
                    node("Add", "add", &["x", "w"], &["s"]),
                ],
                vec![w()],
                SUM,
            ),
            Case::new(
                "outputs that are an input, an initializer and a value of the middle",
                vec![add(), node("Neg", "neg", &["y"], &["z"])],
                vec![w()],
                &[
                    ("x", &[1.0, -2.0]),
                    ("w", &[10.0, 20.0]),
                    ("y", &[11.0, 18.0]),
                    ("z", &[-11.0, -18.0]),
                ],
            ),
            Case::new(
                "nodes without names",
                vec![
                    node("Add", "", &["x", "w"], &["s"]),
                    node("Identity", "", &["s"], &["y"]),
                ],
                vec![w()],
                SUM,
            ),
        ];
        let folder = tempfile::tempdir().unwrap();
        for case in cases {
            let path = folder.path().join("model.onnx");
            write_model(&case.model(), &path).unwrap();
            let network = run(&path, &case);
            let target = targets::find("onnxruntime").unwrap();
            let prepared = Prepared::new(&network, target, 3).unwrap();
            assert!(
                prepared.value_names().contains(&case.input.to_owned()),
                "{}",
                case.what
            );
            let copy = folder.path().join("copy.onnx");
            write_model(&network.model, &copy).unwrap();
            run(&copy, &case);
        }
    }

    /// ONNX Runtime takes the last and warns. Which one was meant nobody can tell.
    #[test]
    fn two_initializers_of_one_name_are_refused() {
        let case = Case::new(
            "twice",
            vec![Node::new("Add", "add", &["x", "w"], &["y"])],
            vec![
                initializer("w", floats(&[1.0, 2.0])),
                initializer("w", floats(&[3.0, 4.0])),
            ],
            &[],
        );
        assert_eq!(
            Network::new("m.onnx".to_owned(), case.model())
                .unwrap_err()
                .to_string(),
            "m.onnx: initializer \"w\" is stored twice with different values, expected one (ONNX Runtime takes the last)"
        );
    }
}

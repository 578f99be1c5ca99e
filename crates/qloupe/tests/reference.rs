//! Float outputs against those that ONNX Runtime gave (`testdata/reference/provenance.json` tells which and how), and
//! the plans of the Rockchip targets against the vendor's rule.

#[cfg(test)]
mod reference {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use qloupe::array::ArrayFile;
    use qloupe::plan::{Method, Precision, QuantPlan};
    use qloupe::prepare::{Crop, Prepared};
    use qloupe::quantize::{QuantizeOptions, Quantized, with_plain_ranges};
    use qloupe::recipe::Recipe;
    use qloupe::samples::Dataset;
    use qloupe::session::Session;
    use qloupe::targets::{self, Support, Target};
    use qloupe_exec::{Mode, Stored, UnitCompute};
    use qloupe_tensor::Tensor;

    /// The largest difference to the reference, relative to its range: both sum in float32, in another order.
    const TOLERANCE: f64 = 1e-4;
    /// A value that varies less is compared as if it varied so much.
    const MIN_RANGE: f64 = 1e-3;

    fn testdata() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
    }

    fn session(model: &str, recipe: &Recipe) -> Session {
        let path = testdata().join("models").join(model).with_extension("onnx");
        Session::open(&path, &Crop::default(), &BTreeMap::new(), recipe).unwrap()
    }

    /// The arrays of a reference file as `(kind, value, tensor)`; a key is `input/x`, `output/y` or `value/z`.
    fn reference(model: &str) -> Vec<(String, String, Tensor)> {
        let file = ArrayFile::open(&testdata().join("reference").join(model).with_extension("npz")).unwrap();
        let read = |idx: usize| {
            let (kind, value) = file.arrays()[idx].name.split_once('/').unwrap();
            (kind.to_owned(), value.to_owned(), file.read(idx).unwrap())
        };
        (0..file.arrays().len()).map(read).collect()
    }

    /// The largest difference, relative to the range of the reference.
    fn difference(reference: &[f64], test: &[f64]) -> f64 {
        let max = reference.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = reference.iter().copied().fold(f64::INFINITY, f64::min);
        let distance = |(a, b): (&f64, &f64)| if b.is_nan() { f64::INFINITY } else { (a - b).abs() };
        let worst = reference.iter().zip(test).map(distance).fold(0.0, f64::max);
        worst / (max - min).max(max.abs()).max(min.abs()).max(MIN_RANGE)
    }

    fn argmax(row: &[f64]) -> Option<usize> {
        (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
    }

    /// The first sample of a batch.
    fn first_sample(batch: &Tensor) -> Tensor {
        let shape = [&[1], &batch.shape()[1..]].concat();
        let n_elements = shape.iter().product();
        Tensor::new(&shape, batch.require::<f32>().unwrap()[..n_elements].to_vec()).unwrap()
    }

    /// Runs a model on the stored inputs and compares every stored value; gives the number of values. Outputs are
    /// stored for the whole batch, other values for its first sample.
    fn compare(model: &str) -> usize {
        let network = session(model, &Recipe::default()).network;
        let (inputs, expected): (Vec<_>, Vec<_>) = reference(model)
            .into_iter()
            .partition(|(kind, _, _)| kind == "input");
        for (kind, name, expected) in &expected {
            let is_output = kind == "output";
            let feed = |batch: &Tensor| {
                if is_output {
                    batch.clone()
                } else {
                    first_sample(batch)
                }
            };
            let inputs = inputs
                .iter()
                .map(|(_, name, batch)| (name.clone(), Stored::plain(feed(batch))))
                .collect();
            let mut walk = network.program.walk(inputs, &[name.as_str()]).unwrap();
            while walk.step().unwrap().is_some() {}
            let value = walk.require(name).unwrap().to_plain();
            assert_eq!(value.shape(), expected.shape(), "{model}, {name}");
            let (a, b) = (expected.to_f64_vec().unwrap(), value.to_f64_vec().unwrap());
            let difference = difference(&a, &b);
            println!("{model}, {name}: {difference:.1e}");
            assert!(
                difference < TOLERANCE,
                "{model}, {name}: differs by {difference:e} of its range"
            );
            let n_classes = expected.shape().last().copied().unwrap();
            for (sample, (a, b)) in a
                .chunks(n_classes)
                .zip(b.chunks(n_classes))
                .enumerate()
                .filter(|_| is_output)
            {
                assert_eq!(
                    argmax(a),
                    argmax(b),
                    "{model}, {name}, sample {sample}: another class"
                );
            }
        }
        expected.len()
    }

    #[test]
    fn recurrent_networks_and_transformers_give_what_onnx_runtime_gives() {
        assert_eq!(compare("fmnist_lstm"), 1);
        assert_eq!(compare("fmnist_vit"), 1);
        assert_eq!(compare("silero_vad_16k_op15"), 2);
    }

    /// The shapes of a sample decide every `If` of the model: its LSTM becomes a unit with integer weights.
    #[test]
    fn an_lstm_in_branches_is_quantized() {
        let mut session = session("silero_vad_16k_op15", &Recipe::default());
        let inputs = reference("silero_vad_16k_op15").into_iter();
        let sample: Vec<(String, Tensor)> = inputs
            .filter(|(kind, _, _)| kind == "input")
            .map(|(_, name, tensor)| (name, tensor))
            .collect();
        let changes = session.resolve_branches(&sample).unwrap();
        assert_eq!(changes.len(), 5, "{changes:?}");
        // What onnxruntime does, and integer weights for recurrent operators.
        let base = targets::find("onnxruntime").unwrap();
        let operators = [base.operators, &[("LSTM", Support::Int8Weights)]].concat();
        let target: &Target = Box::leak(Box::new(Target {
            operators: operators.leak(),
            ..*base
        }));
        let prepared = Prepared::new(&session.network, target, 3).unwrap();
        let options = QuantizeOptions::new(target);
        let quantized = with_plain_ranges(prepared, [(0, sample.as_slice())], &options).unwrap();
        let Quantized { prepared, plan, .. } = quantized;
        let assignment = prepared.assignment(&plan);
        let lstm = assignment.units.iter().find(|unit| {
            let node = &prepared.model.graph.nodes[unit.node_idxs[0]];
            node.is_onnx("LSTM")
        });
        let lstm = lstm.unwrap();
        assert_eq!((lstm.compute, lstm.weights.len()), (UnitCompute::Quantized, 2));
        let states = ["LSTM_output_1", "LSTM_output_2"].map(|name| {
            plan.value(&format!(
                "/model/decoder/If_1/then_branch//model/decoder/rnn/{name}"
            ))
            .unwrap()
        });
        assert!(
            states
                .iter()
                .all(|s| matches!(s.precision, Precision::Float { .. }))
        );
        let float = session.network.program.run(sample.clone()).unwrap();
        let integer = prepared
            .quantized(&session.network, &plan, Mode::Integer)
            .unwrap();
        let quantized = integer.run(&sample).unwrap();
        for ((name, float), (_, quantized)) in float.iter().zip(&quantized) {
            let (a, b) = (float.to_f64_vec().unwrap(), quantized.to_f64_vec().unwrap());
            assert!(difference(&a, &b) < 0.1, "{name}: {}", difference(&a, &b));
        }
    }

    #[test]
    fn fmnist_mbv2_gives_what_onnx_runtime_gives() {
        assert_eq!(compare("fmnist_mbv2"), 1);
    }

    #[test]
    fn every_value_of_fmnist_resnet_is_what_onnx_runtime_gives() {
        assert_eq!(compare("fmnist_resnet"), 26);
    }

    #[test]
    fn ppocr_v2_cls_gives_what_onnx_runtime_gives() {
        assert_eq!(compare("ppocr_v2_cls"), 1);
    }

    /// The plan of fmnist_mbv2 for a target, and the weights that it names.
    fn plan_of(target: &str, method: Method) -> (QuantPlan, BTreeMap<String, Tensor>) {
        let recipe = Recipe::read(&testdata().join("fmnist/recipe.toml")).unwrap();
        let session = session("fmnist_mbv2", &recipe);
        let dataset = Dataset::open(&testdata().join("fmnist/calib"), &session.inputs).unwrap();
        let target = targets::find(target).unwrap();
        let prepared = Prepared::new(&session.network, target, 3).unwrap();
        let options = QuantizeOptions {
            method,
            ..QuantizeOptions::new(target)
        };
        let samples: Vec<_> = (0..dataset.len())
            .map(|idx| dataset.batch(idx).unwrap().inputs)
            .collect();
        let numbered = samples.iter().map(Vec::as_slice).enumerate();
        let Quantized { prepared, plan, .. } = with_plain_ranges(prepared, numbered, &options).unwrap();
        let weight = |name: &String| (name.clone(), prepared.program.constant(name).unwrap().clone());
        let weights = prepared.weight_names().iter().map(weight).collect();
        (plan, weights)
    }

    /// The vendor's rule: `scale = (max - min) / 255`, `zero_point = round(-128 - min / scale)`, the range extended to 0.
    #[test]
    fn activations_of_rockchip_targets_follow_the_vendors_rule() {
        for target in targets::ALL
            .iter()
            .filter(|t| t.id.starts_with("rk") || t.id.starts_with("rv"))
            .filter(|t| !t.keeps_values_float())
        {
            let (plan, _) = plan_of(target.id, Method::Channel);
            let mut n_checked = 0;
            for value in &plan.values {
                let Precision::Quantized(params) = &value.precision else {
                    continue;
                };
                let range = value.range.unwrap();
                let (min, max) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
                let scale = (max - min) / 255.0;
                let zero_point = (-128.0 - min / scale).round_ties_even();
                let expected = (Some(scale as f32), Some(zero_point as i32));
                let got = (
                    params.scale().first().copied(),
                    params.zero_point().first().copied(),
                );
                assert_eq!(got, expected, "{}, {}", target.id, value.name);
                n_checked += 1;
            }
            // Those that a convolution adds or activates before it rounds have none.
            assert_eq!(n_checked, 20, "{}: values with a scale of their own", target.id);
        }
    }

    /// Weights have the rule of activations, for each output channel or for the tensor: what the vendor's simulator multiplies
    /// with lies on this grid (docs/BENCHMARKS.md).
    #[test]
    fn weights_of_rockchip_targets_have_the_range_of_a_channel_or_layer() {
        for method in [Method::Channel, Method::Layer] {
            let (plan, weights) = plan_of("rk3588", method);
            assert_eq!(plan.weights.len(), weights.len());
            for weight in &plan.weights {
                let (scales, zero_points) = asymmetric_params(&weights[&weight.name], method);
                let place = format!("{} by {}", weight.name, method.name());
                assert_eq!(weight.params.scale(), scales, "{place}");
                assert_eq!(weight.params.zero_point(), zero_points, "{place}");
                assert_eq!(weight.outcome, "", "{place}: nothing special");
            }
        }
    }

    fn asymmetric_params(weight: &Tensor, method: Method) -> (Vec<f32>, Vec<i32>) {
        let values = weight.require::<f32>().unwrap();
        let params = |channel: &mut dyn Iterator<Item = &f32>| {
            let (min, max) = channel.fold((0.0_f32, 0.0_f32), |(min, max), &v| (min.min(v), max.max(v)));
            let scale = (f64::from(max) - f64::from(min)) / 255.0;
            let zero_point = (-128.0 - f64::from(min) / scale).round_ties_even();
            (scale as f32, zero_point as i32)
        };
        let params: Vec<(f32, i32)> = match (method, weight.shape()) {
            (Method::Layer, _) => vec![params(&mut values.iter())],
            // The output channels of a Conv come first, those of a MatMul last.
            (Method::Channel, [n, _, _, _]) => values
                .chunks(values.len() / n)
                .map(|c| params(&mut c.iter()))
                .collect(),
            (Method::Channel, [_, n]) => (0..*n)
                .map(|c| params(&mut values.iter().skip(c).step_by(*n)))
                .collect(),
            (Method::Channel | Method::Block, shape) => {
                panic!("no rule for a weight of shape {shape:?} by {}", method.name())
            }
        };
        params.into_iter().unzip()
    }
}

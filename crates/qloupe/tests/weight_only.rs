//! Integer weights beside float16 values: plans, their files, the model that is written, and that all of them say the same.

#[cfg(test)]
mod fmnist;

#[cfg(test)]
mod weight_only {
    use proptest::prelude::*;
    use qloupe::calibrate;
    use qloupe::mixed_fp16::convert_by_plan;
    use qloupe::plan::{Method, Precision, constants_path, write_plan};
    use qloupe::prepare::Network;
    use qloupe::quantize::{QuantizeOptions, Quantized, quantize, read_plan};
    use qloupe::runner::Runner;
    use qloupe::samples::Dataset;
    use qloupe::session::Session;
    use qloupe::targets;
    use qloupe::weight_only::quantize_weights_alone;
    use qloupe_exec::{Mode, UnitCompute};
    use qloupe_ir::Model;
    use qloupe_tensor::{DType, Granularity, QuantParams, Rounding, Tensor, fake_quantize_linear};

    use crate::fmnist::session;

    /// A written model rounds the results of every node to float16, the simulator those of units: so near are both.
    const SAME_IN_FLOAT16_DB: f64 = 55.0;

    fn options(target: &str, algorithm: &str) -> QuantizeOptions {
        QuantizeOptions {
            algorithm: calibrate::find(algorithm).unwrap(),
            ..QuantizeOptions::new(targets::find(target).unwrap())
        }
    }

    fn alone(session: &Session, target: &str) -> Quantized {
        quantize_weights_alone(session, None, &options(target, "min_max")).unwrap()
    }

    /// Outputs of the float network and of another, pooled over a few samples.
    fn sqnr_db(reference: &[Tensor], test: &[Tensor]) -> f64 {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in reference.iter().zip(test) {
            let pairs = a
                .require::<f32>()
                .unwrap()
                .iter()
                .zip(b.require::<f32>().unwrap());
            for (&a, &b) in pairs {
                signal += f64::from(a).powi(2);
                noise += (f64::from(a) - f64::from(b)).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    }

    fn run(runner: &Runner, network: &Network, dataset: &Dataset) -> Vec<Tensor> {
        let outputs = |idx: usize| {
            let inputs = dataset.batch(idx).unwrap().inputs;
            runner.run(network, &inputs, None).unwrap().remove(0).1
        };
        (0..4).map(outputs).collect()
    }

    fn simulated(session: &Session, dataset: &Dataset, quantized: &Quantized) -> Vec<Tensor> {
        let runner = quantized.runner(session, Mode::Integer).unwrap();
        run(&runner, &session.network, dataset)
    }

    fn written(quantized: &Quantized) -> Model {
        convert_by_plan("model.onnx", &quantized.prepared, &quantized.plan).unwrap()
    }

    fn stored(model: &Model, dtype: DType) -> Vec<&str> {
        let initializers = model.graph.initializers.iter();
        let of_dtype = initializers.filter(|initializer| initializer.value.dtype() == dtype);
        of_dtype.map(|initializer| initializer.name.as_str()).collect()
    }

    #[test]
    fn the_written_model_answers_as_the_simulator() {
        for (model, target, dtype) in [
            ("fmnist_mbv2", "rk3576-w4a16", DType::Int4),
            ("fmnist_vit", "rv1126b-w4a16", DType::Int4),
            ("fmnist_resnet", "rk3562-w8a16", DType::Int8),
        ] {
            let (session, dataset) = session(model);
            let quantized = alone(&session, target);
            let float = run(&Runner::Float, &session.network, &dataset);
            let simulator = simulated(&session, &dataset, &quantized);
            let model = written(&quantized);
            let integers = stored(&model, dtype).len();
            assert!(
                integers >= quantized.plan.weights.len(),
                "{integers} stored as {dtype}"
            );
            // What is read back is what was written.
            let bytes = qloupe_onnx::model_to_bytes(&model).unwrap();
            let read = qloupe_onnx::read_model_bytes(bytes, None).unwrap();
            let network = Network::new("written.onnx".to_owned(), read).unwrap();
            let own = run(&Runner::Float, &network, &dataset);
            let (same, lost) = (sqnr_db(&simulator, &own), sqnr_db(&float, &simulator));
            assert!(
                same > SAME_IN_FLOAT16_DB,
                "{target}: {same:.1} dB between model and simulator"
            );
            assert!(
                lost < SAME_IN_FLOAT16_DB,
                "{target}: {lost:.1} dB, integer weights lose something"
            );
        }
    }

    #[test]
    fn blocks_are_of_input_channels_and_shared_by_the_places_of_the_kernel() {
        let (session, _) = session("fmnist_resnet");
        let quantized = alone(&session, "rk3576-w4a16");
        let mut n_blocks = 0;
        for weight in &quantized.plan.weights {
            let stored = quantized.prepared.program.constant(&weight.name).unwrap();
            let Granularity::PerBlock { axis, block_size } = weight.params.granularity() else {
                continue;
            };
            n_blocks += 1;
            let (shape, values) = (stored.shape(), stored.require::<f32>().unwrap());
            assert!(axis == usize::from(shape.len() == 4) && block_size == 32 && shape[axis] > 32);
            if let [n_out, n_in, height, width] = *shape {
                let n_places = height * width;
                for (out, block) in (0..n_out).flat_map(|o| (0..n_in.div_ceil(32)).map(move |b| (o, b))) {
                    let begin = (out * n_in + block * 32) * n_places;
                    let end = (out * n_in + n_in.min(block * 32 + 32)) * n_places;
                    let largest = values[begin..end].iter().fold(0.0_f32, |max, v| max.max(v.abs()));
                    let expected = half::f16::from_f32(largest / 7.0).to_f32();
                    let scales = &weight.params.scale()[(out * n_in.div_ceil(32) + block) * n_places..];
                    assert!(
                        scales[..n_places]
                            .iter()
                            .all(|scale| scale.to_bits() == expected.to_bits()),
                        "{}",
                        weight.name
                    );
                }
            }
        }
        assert!(n_blocks > 0, "no weight of fmnist_resnet is in blocks");
    }

    #[test]
    fn a_plan_reads_back_equal_with_scales_and_rounded_weights_beside_it() {
        let (session, dataset) = session("fmnist_vit");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vit.plan.toml");
        let quantized = quantize(
            &session,
            &dataset,
            &options("rk3576-w4a16", "auto"),
            &|_, _, _| (),
        )
        .unwrap();
        assert!(
            !quantized.plan.optimized.race.is_empty(),
            "both kinds of scales were tried"
        );
        write_plan(&path, &quantized.plan).unwrap();
        let read = read_plan(&path, &session).unwrap();
        assert_eq!(read.plan, quantized.plan);
        let (before, after) = (
            simulated(&session, &dataset, &quantized),
            simulated(&session, &dataset, &read),
        );
        assert!(before == after, "the same plan answers the same");
    }

    #[test]
    fn scales_that_are_missing_beside_a_plan_are_named() {
        let (session, _) = session("fmnist_vit");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vit.plan.toml");
        write_plan(&path, &alone(&session, "rk3576-w4a16").plan).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replacen("value_1/Reshape:0_scale\"", "value_1/scale\"", 1),
        )
        .unwrap();
        let error = read_plan(&path, &session).unwrap_err().to_string();
        let weight = "functional_1/multi_head_attention_1/value_1/Reshape:0";
        assert_eq!(
            error,
            format!(
                "{}: array \"functional_1/multi_head_attention_1/value_1/scale\" (scales of weight \"{weight}\") is missing, \
                 expected float32 of shape [128]",
                constants_path(&path).display()
            )
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let without = text.replacen("constants = ", "# constants = ", 1);
        std::fs::write(&path, without).unwrap();
        let error = read_plan(&path, &session).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: weight \"{weight}\": its scales are the array \"functional_1/multi_head_attention_1/value_1/scale\", expected \
                 `constants` with the file that has it",
                path.display()
            )
        );
    }

    #[test]
    fn a_unit_that_is_raised_by_hand_gives_up_its_integer_weights() {
        let (session, _) = session("fmnist_resnet");
        let Quantized {
            prepared, mut plan, ..
        } = alone(&session, "rk3576-w4a16");
        let n_integer = |plan: &_| {
            let units = prepared.assignment(plan).units;
            units.iter().filter(|unit| !unit.weights.is_empty()).count()
        };
        let before = plan.clone();
        let is_integer = |precision: &Precision| *precision == Precision::WeightOnly(DType::Int4);
        let name = plan
            .values
            .iter()
            .find(|value| is_integer(&value.precision))
            .unwrap()
            .name
            .clone();
        for (precision, compute) in [("fp16", UnitCompute::Fp16), ("float", UnitCompute::Float)] {
            plan.set_precision(&name, precision).unwrap();
            assert_eq!(n_integer(&plan), n_integer(&before) - 1, "{precision}");
            let specs = prepared.assignment(&plan).units;
            assert!(
                specs
                    .iter()
                    .any(|spec| spec.compute == compute && spec.weights.is_empty())
            );
            let model = convert_by_plan("m.onnx", &prepared, &plan).unwrap();
            assert_eq!(
                stored(&model, DType::Int4).len(),
                before.weights.len() - 1,
                "{precision}"
            );
        }
        plan.set_precision(&name, "w4a16").unwrap();
        assert_eq!(n_integer(&plan), n_integer(&before));
        assert_eq!(
            plan.set_precision(&name, "w8a16").unwrap_err().to_string(),
            format!(
                "value \"{name}\": precision w8a16 is not one of target rk3576-w4a16, expected fp16 or float"
            )
        );
    }

    #[test]
    fn weights_that_passes_rounded_are_those_of_before_where_a_unit_is_raised() {
        let (session, dataset) = session("fmnist_resnet");
        let rounded = quantize(&session, &dataset, &options("rk3576-w4a16", "mse"), &|_, _, _| ()).unwrap();
        let constants = &rounded.plan.optimized.constants;
        let is_rounded = |name: &String| constants.contains_key(name);
        let (n_rounded, n_constants) = (
            rounded
                .plan
                .weights
                .iter()
                .filter(|weight| is_rounded(&weight.name))
                .count(),
            constants.len(),
        );
        assert!(n_rounded > 0, "the pass rounded weights");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edited.plan.toml");
        write_plan(&path, &rounded.plan).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replacen("precision = \"w4a16\"", "precision = \"fp16\"", 1),
        )
        .unwrap();
        let raised = read_plan(&path, &session).unwrap();
        assert_eq!(
            raised.plan.optimized.constants.len(),
            n_constants - 2,
            "a weight and its bias"
        );
        std::fs::write(
            &path,
            text.replace("precision = \"w4a16\"", "precision = \"fp16\""),
        )
        .unwrap();
        let all = read_plan(&path, &session).unwrap();
        assert!(all.plan.optimized.constants.is_empty());
        let float = run(&Runner::Float, &session.network, &dataset);
        let lost = sqnr_db(&float, &simulated(&session, &dataset, &all));
        assert!(
            lost > SAME_IN_FLOAT16_DB,
            "{lost:.1} dB with every unit in float16"
        );
    }

    #[test]
    fn what_only_values_have_is_refused() {
        let (session, _) = session("fmnist_resnet");
        let refused = |options: QuantizeOptions| {
            let made = quantize_weights_alone(&session, None, &options);
            made.unwrap_err().to_string()
        };
        assert_eq!(
            refused(options("rk3576-w4a16", "entropy")),
            "algorithm entropy finds ranges of values, target rk3576-w4a16 quantizes weights only, expected auto, min_max or mse"
        );
        assert_eq!(
            refused(QuantizeOptions {
                method: Method::Block,
                ..options("rk3562-w8a16", "mse")
            }),
            "method block with target rk3562-w8a16 is not supported, expected channel or layer"
        );
    }

    /// What a block is, the slow way: every element looks for the others of its block.
    fn slow(weight: &Tensor, axis: usize, block_size: usize, params: &QuantParams) -> Vec<f32> {
        let (shape, values) = (weight.shape(), weight.as_slice::<f32>().unwrap());
        let inner: usize = shape[axis + 1..].iter().product();
        let n_blocks = shape[axis].div_ceil(block_size);
        let of = |(element, value): (usize, &f32)| {
            let (outer, along, within) = (
                element / (inner * shape[axis]),
                element / inner % shape[axis],
                element % inner,
            );
            let scale = params.scale()[(outer * n_blocks + along / block_size) * inner + within];
            Rounding::TiesEven.round(value / scale).clamp(-8.0, 7.0) * scale
        };
        values.iter().enumerate().map(of).collect()
    }

    proptest! {
        #[test]
        fn numbers_inside_the_range_of_their_block_move_by_half_a_step_at_most(
            shape in proptest::collection::vec(1_usize..7, 1..4),
            axis in 0_usize..3,
            block_size in 1_usize..5,
            seed in any::<u32>(),
        ) {
            let axis = axis % shape.len();
            let granularity = Granularity::PerBlock { axis, block_size };
            let n: usize = shape.iter().product();
            let number = |i: usize| (seed.wrapping_add(i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0;
            let weight = Tensor::new(&shape, (0..n).map(number).collect::<Vec<_>>()).unwrap();
            let n_scales = granularity.n_scales(&shape).unwrap();
            let scale: Vec<f32> = (0..n_scales).map(|i| 0.25 + number(i + n).abs() / 4.0).collect();
            let params = QuantParams::new(DType::Int4, granularity, scale, vec![0; n_scales]).unwrap();
            let rounded = fake_quantize_linear(&weight, &params, Rounding::TiesEven).unwrap();
            let rounded = rounded.as_slice::<f32>().unwrap();
            prop_assert_eq!(rounded, slow(&weight, axis, block_size, &params));
            for (element, (&v, &q)) in weight.as_slice::<f32>().unwrap().iter().zip(rounded).enumerate() {
                let scale = params.scale()[params.idx_of(element, &shape)];
                let inside = v >= -8.0 * scale && v <= 7.0 * scale;
                prop_assert!(!inside || (v - q).abs() <= scale * 0.500_001, "{} became {} with {}", v, q, scale);
            }
        }
    }
}

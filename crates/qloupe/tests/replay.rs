//! Partial re-execution of quantized networks, on integers, against whole runs.

#[cfg(test)]
mod replay {
    use std::path::Path;

    use qloupe::calibrate::{self, Calibration};
    use qloupe::plan::{Method, PlanOptions, build_plan};
    use qloupe::prepare::{Network, Prepared};
    use qloupe::samples::Batch;
    use qloupe::{Mode, targets};
    use qloupe_exec::{QuantizedProgram, Replay, Value};
    use qloupe_tensor::Tensor;

    fn sample(seed: u32) -> Vec<(String, Tensor)> {
        let values =
            (0..784_u32).map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0);
        let tensor = Tensor::new(&[1, 1, 28, 28], values.collect()).unwrap();
        vec![("input".to_owned(), tensor)]
    }

    /// fmnist_resnet, quantized for a target.
    fn with_program(
        target: &str,
        check: impl FnOnce(&QuantizedProgram, &[(String, Tensor)], &[(String, Tensor)]),
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/fmnist_resnet.onnx");
        let model = qloupe_onnx::read_model(&path).unwrap();
        let network = Network::new("fmnist_resnet.onnx".to_owned(), model).unwrap();
        let name = network.model.graph.runtime_inputs()[0].name.clone();
        let named = |seed| -> Vec<(String, Tensor)> {
            let sample = sample(seed).into_iter();
            sample.map(|(_, tensor)| (name.clone(), tensor)).collect()
        };
        let (first, second) = (named(1), named(5000));
        let mut calibration = Calibration::new(&network.program, calibrate::find("min_max").unwrap());
        calibration.observe(&Batch::single(0, first.clone())).unwrap();
        calibration.observe(&Batch::single(1, second.clone())).unwrap();
        let target = targets::find(target).unwrap();
        let prepared = Prepared::new(&network, target, 3).unwrap();
        let options = PlanOptions {
            target,
            algorithm: "min_max".to_owned(),
            method: Method::Channel,
            optimization_level: 3,
        };
        let (program, topology) = (&prepared.program, &prepared.topology);
        let plan = build_plan(
            program,
            topology,
            &prepared.units,
            &calibration.finish(),
            &options,
        )
        .unwrap();
        let quantized = prepared.quantized(&network, &plan, Mode::Integer).unwrap();
        check(&quantized, &first, &second);
    }

    fn same(a: &Value, b: &Value) -> bool {
        let tensor = |value: &Value| value.as_tensor().unwrap().to_plain().clone();
        tensor(a) == tensor(b)
    }

    #[test]
    fn another_input_reaches_the_values_of_another_run() {
        for target in ["onnxruntime", "rk3588"] {
            with_program(target, |program, first, second| {
                let values: Vec<String> = program
                    .units()
                    .iter()
                    .flat_map(|unit| unit.outputs().to_vec())
                    .collect();
                let goals: Vec<&str> = values.iter().map(String::as_str).collect();
                let mut other = Replay::of_quantized(program, second, usize::MAX).unwrap();
                for limit_bytes in [usize::MAX, 3000, 0] {
                    let mut replay = Replay::of_quantized(program, first, limit_bytes).unwrap();
                    let changed: Vec<(String, Value)> = second
                        .iter()
                        .map(|(name, _)| (name.clone(), other.golden(name).unwrap()))
                        .collect();
                    let replayed = replay.run(changed, &goals).unwrap();
                    for (name, value) in goals.iter().zip(&replayed.values) {
                        assert!(
                            same(value, &other.golden(name).unwrap()),
                            "{target}, {limit_bytes} bytes: {name}"
                        );
                    }
                    assert_eq!(
                        replayed.n_steps,
                        program.units().len(),
                        "{target}, {limit_bytes} bytes"
                    );
                }
            });
        }
    }

    #[test]
    fn every_unit_alone_gives_its_golden_values() {
        with_program("onnxruntime", |program, first, _| {
            for limit_bytes in [usize::MAX, 0] {
                let mut replay = Replay::of_quantized(program, first, limit_bytes).unwrap();
                for (idx, unit) in program.units().iter().enumerate() {
                    for (name, value) in unit.outputs().iter().zip(replay.alone(idx).unwrap()) {
                        assert!(same(&value, &replay.golden(name).unwrap()), "{name}");
                    }
                }
            }
        });
    }
}

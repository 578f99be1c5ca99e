//! Partial re-execution of quantized networks, on integers, against whole runs; units shared among plans.

#[cfg(test)]
mod replay {
    use std::path::Path;
    use std::sync::Arc;

    use qloupe::plan::QuantPlan;
    use qloupe::prepare::{Network, Prepared};
    use qloupe::quantize::{QuantizeOptions, Quantized, with_plain_ranges};
    use qloupe::{Mode, targets};
    use qloupe_exec::{Form, QuantizedProgram, Replay, UnitCache, Value};
    use qloupe_tensor::Tensor;

    fn sample(name: &str, seed: u32) -> Vec<(String, Tensor)> {
        let value = |i: u32| ((i + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
        let tensor = Tensor::new(&[1, 1, 28, 28], (0..784).map(value).collect()).unwrap();
        vec![(name.to_owned(), tensor)]
    }

    /// fmnist_resnet with a plan for a target, and two samples.
    struct Case {
        network: Network,
        prepared: Prepared,
        plan: QuantPlan,
        first: Vec<(String, Tensor)>,
        second: Vec<(String, Tensor)>,
    }

    impl Case {
        fn new(target: &str) -> Self {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/fmnist_resnet.onnx");
            let model = qloupe_onnx::read_model(&path).unwrap();
            let network = Network::new("fmnist_resnet.onnx".to_owned(), model).unwrap();
            let name = network.model.graph.runtime_inputs()[0].name.clone();
            let (first, second) = (sample(&name, 1), sample(&name, 5000));
            let target = targets::find(target).unwrap();
            let prepared = Prepared::new(&network, target, 3).unwrap();
            let options = QuantizeOptions::new(target);
            let samples = [(0, first.as_slice()), (1, second.as_slice())];
            let quantized = with_plain_ranges(prepared, samples, &options).unwrap();
            let Quantized { prepared, plan, .. } = quantized;
            Self {
                network,
                prepared,
                plan,
                first,
                second,
            }
        }

        fn program(&self, mode: Mode) -> QuantizedProgram {
            self.prepared.quantized(&self.network, &self.plan, mode).unwrap()
        }
    }

    #[test]
    fn units_are_compiled_once_for_each_scheme() {
        let case = Case::new("onnxruntime");
        let same = |a: &QuantizedProgram, b: &QuantizedProgram| -> Vec<bool> {
            a.units()
                .iter()
                .zip(b.units())
                .map(|(a, b)| Arc::ptr_eq(a, b))
                .collect()
        };
        let (first, again) = (case.program(Mode::Integer), case.program(Mode::Integer));
        assert!(same(&first, &again).iter().all(|&same| same), "one plan");
        let other = case.program(Mode::FakeQuant);
        assert!(!same(&first, &other).iter().any(|&same| same), "another mode");
        let method = case.prepared.assignment(&case.plan);
        let mut float = method.clone();
        float
            .forms
            .insert(first.units()[3].outputs()[0].clone(), Form::FLOAT);
        let cache = UnitCache::default();
        let compile = |assignment| {
            QuantizedProgram::with_cache(&case.prepared.program, assignment, Mode::Integer, &cache)
        };
        let shared = same(&compile(&method).unwrap(), &compile(&float).unwrap());
        assert!(
            !shared[3] && shared[0] && shared.iter().filter(|&&same| !same).count() < 5,
            "{shared:?}"
        );
    }

    fn same(a: &Value, b: &Value) -> bool {
        let tensor = |value: &Value| value.as_tensor().unwrap().to_plain().clone();
        tensor(a) == tensor(b)
    }

    #[test]
    fn another_input_reaches_the_values_of_another_run() {
        for target in ["onnxruntime", "rk3588"] {
            let case = Case::new(target);
            let (program, first, second) = (&case.program(Mode::Integer), &case.first, &case.second);
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
        }
    }

    #[test]
    fn every_unit_alone_gives_its_golden_values() {
        let case = Case::new("onnxruntime");
        let (program, first) = (&case.program(Mode::Integer), &case.first);
        for limit_bytes in [usize::MAX, 0] {
            let mut replay = Replay::of_quantized(program, first, limit_bytes).unwrap();
            for (idx, unit) in program.units().iter().enumerate() {
                for (name, value) in unit.outputs().iter().zip(replay.alone(idx).unwrap()) {
                    assert!(same(&value, &replay.golden(name).unwrap()), "{name}");
                }
            }
        }
    }
}

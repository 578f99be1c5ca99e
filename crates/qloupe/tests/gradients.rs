//! Gradients of whole networks against differences of their outputs along the gradient itself.

#[cfg(test)]
mod gradients {
    use std::collections::BTreeMap;
    use std::path::Path;

    use qloupe_exec::{Backward, Program, Value};
    use qloupe_tensor::Tensor;

    /// Largest relative difference of the slope along the gradient from its length: kinks and curvature on the way.
    const TOLERANCE: f64 = 0.03;
    /// The change of a value for a difference, relative to its own size.
    const STEP: f64 = 1e-4;

    fn floats(n: usize, seed: u32) -> Vec<f32> {
        let number = |i: u32| ((i + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
        (0..n as u32).map(number).collect()
    }

    fn values_of(program: &Program, inputs: &[(String, Tensor)]) -> BTreeMap<String, Value> {
        let goals: Vec<&str> = program.graph().output_names().collect();
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        for (name, tensor) in inputs {
            values.insert(name.clone(), tensor.clone().into());
        }
        let mut walk = program.walk(inputs.to_vec(), &goals).unwrap();
        while let Some(stepped) = walk.step().unwrap() {
            for (name, value) in stepped.outputs() {
                values.insert(name.to_owned(), value.clone());
            }
        }
        values
    }

    fn length(values: &[f32]) -> f64 {
        values
            .iter()
            .map(|&v| f64::from(v) * f64::from(v))
            .sum::<f64>()
            .sqrt()
    }

    /// The outputs times the seeds, with one value replaced.
    fn loss(
        program: &Program,
        inputs: &[(String, Tensor)],
        (name, value): (&str, Tensor),
        seeds: &[(String, Tensor)],
    ) -> f64 {
        let mut given: Vec<(String, Tensor)> = inputs.iter().filter(|(n, _)| n != name).cloned().collect();
        given.push((name.to_owned(), value));
        let goals: Vec<&str> = seeds.iter().map(|(name, _)| name.as_str()).collect();
        let mut walk = program.walk(given, &goals).unwrap();
        while walk.step().unwrap().is_some() {}
        let of = |(name, seed): &(String, Tensor)| {
            let y = walk.require(name).unwrap().to_plain();
            let pairs = y
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .zip(seed.as_slice::<f32>().unwrap());
            pairs.map(|(&y, &s)| f64::from(y) * f64::from(s)).sum::<f64>()
        };
        seeds.iter().map(of).sum()
    }

    #[test]
    fn slopes_along_the_gradient_are_its_length() {
        struct Case(&'static str, &'static [usize]);
        let cases = [
            Case("fmnist_mbv2", &[1, 1, 28, 28]),
            Case("fmnist_resnet", &[1, 1, 28, 28]),
            Case("fmnist_vit", &[1, 1, 28, 28]),
            Case("ppocr_v2_cls", &[1, 3, 48, 192]),
        ];
        for Case(model, shape) in cases {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models");
            let file = path.join(model).with_extension("onnx");
            let program = Program::new(&qloupe_onnx::read_model(&file).unwrap()).unwrap();
            let input = program.graph().runtime_inputs()[0].name.clone();
            let x = Tensor::new(shape, floats(shape.iter().product(), 7)).unwrap();
            let inputs = vec![(input.clone(), x)];
            let values = values_of(&program, &inputs);
            let seed = |output: &str| {
                let y = values[output].as_tensor().unwrap().to_plain();
                (
                    output.to_owned(),
                    Tensor::new(y.shape(), floats(y.len(), 3)).unwrap(),
                )
            };
            let seeds: Vec<_> = program.graph().outputs.iter().map(|o| seed(&o.name)).collect();
            let mut gradients: BTreeMap<String, Tensor> = BTreeMap::new();
            let incomplete = Backward::new(&program)
                .unwrap()
                .run(
                    &mut |name| Ok(values[name].clone()),
                    std::slice::from_ref(&seeds),
                    &mut |name, of_seeds| {
                        if let Some(gradient) = &of_seeds[0] {
                            gradients.insert(name.to_owned(), gradient.to_plain().clone());
                        }
                    },
                )
                .unwrap();
            assert_eq!(incomplete, [], "{model}");
            assert!(gradients.contains_key(&input), "{model}: a gradient of the input");
            let mut n_compared = 0;
            // A window of equal zeros after a Relu has no slope.
            let pooled: Vec<&str> = program
                .graph()
                .nodes
                .iter()
                .filter(|node| node.is_onnx("MaxPool"))
                .filter_map(|node| node.input(0))
                .collect();
            let every = (gradients.len() / 12).max(1);
            for (name, gradient) in gradients.iter().step_by(every) {
                let value = values[name].as_tensor().unwrap().to_plain();
                let (g, v) = (
                    gradient.as_slice::<f32>().unwrap(),
                    value.as_slice::<f32>().unwrap(),
                );
                let (slope, size) = (length(g), length(v));
                if slope == 0.0 || size == 0.0 || pooled.contains(&name.as_str()) {
                    continue;
                }
                let step = STEP * size / slope;
                let moved = |sign: f64| {
                    let moved = v
                        .iter()
                        .zip(g)
                        .map(|(&v, &g)| (f64::from(v) + sign * step * f64::from(g)) as f32);
                    Tensor::new(value.shape(), moved.collect()).unwrap()
                };
                let (up, down) = (moved(1.0), moved(-1.0));
                let difference = loss(&program, &inputs, (name, up), &seeds)
                    - loss(&program, &inputs, (name, down), &seeds);
                let got = difference / (2.0 * step * slope);
                assert!(
                    (got - slope).abs() <= TOLERANCE * slope,
                    "{model}, {name}: slope {got}, length of the gradient {slope}"
                );
                n_compared += 1;
            }
            assert!(n_compared > 5, "{model}: {n_compared} values compared");
        }
    }
}

//! Vector-Jacobian products against central differences of the operators' own results: every operator that has one, in both
//! physical orders.

#[cfg(test)]
mod gradients {
    mod cases;

    use std::collections::{BTreeMap, BTreeSet};

    use qloupe_exec::{Backward, Program, Value, ops};
    use qloupe_ir::{Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::Tensor;

    use cases::{Case, Input, Range, all_cases, int, tensor};

    /// Half the distance of a central difference. Kinks are at multiples of a sixteenth, values in the middle between.
    const STEP: f32 = 1.0 / 128.0;
    /// Largest allowed difference, relative to the largest gradient: rounding of float32 over the step, and curvature.
    const TOLERANCE: f64 = 4e-3;

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
        let goals: Vec<&str> = program.graph().output_names().collect();
        let mut walk = program.walk(inputs.to_vec(), &goals).unwrap();
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        for (name, tensor) in inputs {
            values.insert(name.clone(), tensor.clone().into());
        }
        while let Some(stepped) = walk.step().unwrap() {
            for (name, value) in stepped.outputs() {
                values.insert(name.to_owned(), value.clone());
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

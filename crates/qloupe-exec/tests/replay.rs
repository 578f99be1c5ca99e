//! Partial re-execution against whole runs, bit for bit, with all golden values in memory and with hardly any.

#[cfg(test)]
mod replay {
    use qloupe_exec::{Program, Replay, Value};
    use qloupe_ir::{Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::Tensor;

    fn floats(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0)
            .collect()
    }

    /// Two convolutions with a residual around the second, and a dead end that a saturating Clip makes.
    fn model() -> Model {
        let initializer = |name: &str, shape: &[usize], seed: u32| Initializer {
            name: name.to_owned(),
            value: Tensor::new(shape, floats(shape.iter().product(), seed))
                .unwrap()
                .into(),
        };
        let scalar = |name: &str, value: f32| Initializer {
            name: name.to_owned(),
            value: Tensor::scalar(value).into(),
        };
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y"), ValueInfo::untyped("flat")],
            nodes: vec![
                Node::new("Conv", "n0", &["x", "w0"], &["a"]),
                Node::new("Relu", "n1", &["a"], &["b"]),
                Node::new("Conv", "n2", &["b", "w1"], &["c"]),
                Node::new("Sigmoid", "n3", &["c"], &["d"]),
                Node::new("Mul", "n4", &["c", "d"], &["e"]),
                Node::new("Add", "n5", &["e", "b"], &["f"]),
                Node::new("Clip", "n6", &["f", "low", "high"], &["g"]),
                Node::new("GlobalAveragePool", "n7", &["f"], &["y"]),
                Node::new("Flatten", "n8", &["g"], &["flat"]),
            ],
            initializers: vec![
                initializer("w0", &[8, 3, 1, 1], 1),
                initializer("w1", &[8, 8, 1, 1], 2),
                scalar("low", 50.0),
                scalar("high", 60.0),
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

    fn bits(value: &Value) -> Vec<u32> {
        let tensor = value.as_tensor().expect("a tensor").to_plain();
        tensor
            .as_slice::<f32>()
            .expect("floats")
            .iter()
            .map(|v| v.to_bits())
            .collect()
    }

    /// The goals of a run in which a value is replaced.
    fn whole(program: &Program, x: &Tensor, changed: &str, value: &Tensor, goals: &[&str]) -> Vec<Vec<u32>> {
        let given = vec![("x".to_owned(), x.clone()), (changed.to_owned(), value.clone())];
        let mut walk = program.walk(given, goals).unwrap();
        while walk.step().unwrap().is_some() {}
        goals
            .iter()
            .map(|goal| bits(walk.require_value(goal).unwrap()))
            .collect()
    }

    #[test]
    fn any_value_to_any_value_equals_a_whole_run() {
        let program = Program::new(&model()).unwrap();
        let x = Tensor::new(&[1, 3, 5, 4], floats(60, 7)).unwrap();
        let inputs = [("x".to_owned(), x.clone())];
        let with_interiors = [false, true];
        let limits = [usize::MAX, 700, 0].into_iter();
        for (limit_bytes, keeps) in limits.flat_map(|limit| with_interiors.map(|keeps| (limit, keeps))) {
            let mut replay = if keeps {
                Replay::of_float_with_interiors(&program, &inputs, limit_bytes).unwrap()
            } else {
                Replay::of_float(&program, &inputs, limit_bytes).unwrap()
            };
            assert!(
                replay.bytes() <= limit_bytes.saturating_add(60 * 4),
                "{} bytes",
                replay.bytes()
            );
            for changed in ["a", "b", "c", "d", "e", "f"] {
                let value = Tensor::new(&[1, 8, 5, 4], floats(160, 100)).unwrap();
                for goals in [&["y"][..], &["f", "y"], &["d"], &["flat", "e"]] {
                    let result = replay
                        .run(vec![(changed.to_owned(), value.clone().into())], goals)
                        .unwrap();
                    let got: Vec<Vec<u32>> = result.values.iter().map(bits).collect();
                    assert_eq!(
                        got,
                        whole(&program, &x, changed, &value, goals),
                        "{changed} to {goals:?}"
                    );
                }
            }
            for name in ["a", "b", "c", "d", "e", "f", "g", "y"] {
                let golden = replay.golden(name).unwrap();
                assert_eq!(bits(&golden), whole(&program, &x, "x", &x, &[name])[0], "{name}");
            }
            if keeps && limit_bytes == usize::MAX {
                assert_eq!(replay.n_recomputed(), 0, "everything is in memory");
            }
        }
    }

    #[test]
    fn a_replay_ends_where_nothing_changed() {
        let program = Program::new(&model()).unwrap();
        let inputs = [("x".to_owned(), Tensor::new(&[1, 3, 5, 4], floats(60, 7)).unwrap())];
        let mut replay = Replay::of_float(&program, &inputs, usize::MAX).unwrap();
        let golden = replay.golden("b").unwrap();
        let same = replay
            .run(vec![("b".to_owned(), golden)], &["y", "flat"])
            .unwrap();
        assert_eq!((same.n_steps, same.changed), (0, vec![false, false]));
        // Clip makes 50 of every value: what follows it is not reached.
        let f = Tensor::new(&[1, 8, 5, 4], floats(160, 9)).unwrap();
        let result = replay.run(vec![("f".to_owned(), f.into())], &["flat"]).unwrap();
        assert_eq!((result.n_steps, result.changed), (1, vec![false]));
    }

    #[test]
    fn each_group_alone_gives_its_golden_values() {
        let program = Program::new(&model()).unwrap();
        let inputs = [("x".to_owned(), Tensor::new(&[1, 3, 5, 4], floats(60, 7)).unwrap())];
        for limit_bytes in [usize::MAX, 0] {
            let mut replay = Replay::of_float(&program, &inputs, limit_bytes).unwrap();
            let groups: Vec<Vec<String>> = replay
                .groups()
                .into_iter()
                .map(|names| names.into_iter().map(str::to_owned).collect())
                .collect();
            assert_eq!(groups.concat().len(), 5, "{groups:?}");
            for (group, names) in groups.iter().enumerate() {
                let values = replay.alone(group).unwrap();
                for (name, value) in names.iter().zip(&values) {
                    assert_eq!(bits(value), bits(&replay.golden(name).unwrap()), "{name}");
                }
            }
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let program = Program::new(&model()).unwrap();
        let inputs = [("x".to_owned(), Tensor::new(&[1, 3, 5, 4], floats(60, 7)).unwrap())];
        let mut replay = Replay::of_float(&program, &inputs, usize::MAX).unwrap();
        let error = replay.run(Vec::new(), &["why"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("value \"why\" does not exist in the graph"),
            "{error}"
        );
    }
}

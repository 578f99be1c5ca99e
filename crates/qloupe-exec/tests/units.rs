//! Units of quantized programs: shortcuts against what they stand for, bit for bit.

#[cfg(test)]
mod units {
    use std::collections::BTreeMap;

    use qloupe_exec::{
        Assignment, Form, Mode, Program, QuantizedProgram, Stored, Unit, UnitCompute, UnitSpec, Value,
    };
    use qloupe_ir::{Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::{DType, QuantParams, Requantize, Tensor};

    /// x -> Neg -> y -> Add of a row -> z -> Transpose -> w, every value on a grid.
    fn program() -> (Program, QuantizedProgram) {
        let row = Tensor::new(&[32], (0..32).map(|i| i as f32 * 0.3 - 4.0).collect()).unwrap();
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("w")],
            nodes: vec![
                Node::new("Neg", "n0", &["x"], &["y"]),
                Node::new("Add", "n1", &["y", "row"], &["z"]),
                Node::new("Transpose", "n2", &["z"], &["w"]),
            ],
            initializers: vec![Initializer {
                name: "row".to_owned(),
                value: row.into(),
            }],
            ..Graph::default()
        };
        let model = Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            graph,
            ..Model::default()
        };
        let program = Program::new(&model).unwrap();
        let grid = |dtype, scale, zero_point| {
            Form::Quantized(QuantParams::per_tensor(dtype, scale, zero_point).unwrap())
        };
        let forms = BTreeMap::from([
            ("x".to_owned(), grid(DType::UInt8, 0.07, 100)),
            ("y".to_owned(), grid(DType::Int8, 0.09, -3)),
            ("z".to_owned(), grid(DType::UInt8, 0.11, 140)),
            ("w".to_owned(), grid(DType::UInt8, 0.11, 140)),
        ]);
        let unit = |node_idx, compute| UnitSpec {
            node_idxs: vec![node_idx],
            compute,
            requantize: Requantize::FloatScaleZeroPointAfter,
            float_inputs: Vec::new(),
            weights: Vec::new(),
            bias: None,
        };
        let units = vec![
            unit(0, UnitCompute::Float),
            unit(1, UnitCompute::Float),
            unit(2, UnitCompute::Quantized),
        ];
        let assignment = Assignment { forms, units };
        let quantized = QuantizedProgram::new(&program, &assignment, Mode::Integer).unwrap();
        (program, quantized)
    }

    /// Every byte of the input, as real numbers.
    fn x() -> Tensor {
        Tensor::new(&[8, 32], (0..256).map(|q| (q - 100) as f32 * 0.07).collect()).unwrap()
    }

    fn run(unit: &Unit, input: Stored) -> Tensor {
        let results = unit.run(&[&input.into()]).unwrap();
        results[0].as_tensor().unwrap().to_plain().clone()
    }

    fn float(program: &Program, name: &str, input: &Stored, goal: &str) -> Stored {
        let mut walk = program
            .walk(vec![(name.to_owned(), input.clone())], &[goal])
            .unwrap();
        while walk.step().unwrap().is_some() {}
        walk.require(goal).unwrap().clone()
    }

    #[test]
    fn float_units_between_grids_are_dequantize_compute_quantize() {
        let (program, quantized) = program();
        let kernels: Vec<_> = quantized
            .units()
            .iter()
            .map(|unit| unit.integer_kernel())
            .collect();
        assert_eq!(kernels, [Some("lookup"), Some("real_pairs"), Some("movement")]);
        let mut golden = Stored::plain(x());
        for (unit, (from, to)) in quantized.units().iter().zip([("x", "y"), ("y", "z")]) {
            let given = quantized.to_form(from, &golden);
            let real = quantized.to_float(from, &given);
            let expected = quantized.to_form(to, &float(&program, from, &real, to));
            assert_eq!(&run(unit, given), expected.to_plain(), "{to}");
            golden = float(&program, from, &golden, to);
        }
    }

    #[test]
    fn a_unit_that_moves_values_commutes_with_quantization() {
        let (program, quantized) = program();
        let moves: Vec<bool> = quantized.units().iter().map(|unit| unit.only_moves()).collect();
        assert_eq!(moves, [false, false, true]);
        let z = float(&program, "x", &Stored::plain(x()), "z");
        let w = quantized.to_form("w", &float(&program, "z", &z, "w"));
        let moved = run(&quantized.units()[2], quantized.to_form("z", &z));
        assert_eq!(&moved, w.to_plain());
    }

    #[test]
    fn places_tell_what_units_read_and_write() {
        let (_, quantized) = program();
        let names = |places: &[usize]| -> Vec<&str> {
            places
                .iter()
                .map(|&place| quantized.values()[place].as_str())
                .collect()
        };
        for (idx, (read, written)) in [("x", "y"), ("y", "z"), ("z", "w")].into_iter().enumerate() {
            let places = quantized.places(idx);
            assert_eq!((names(places.0), names(places.1)), (vec![read], vec![written]));
            assert_eq!(quantized.form_at(places.0[0]), quantized.form(read));
        }
        let inputs = [("x".to_owned(), x())];
        let mut walk = quantized.walk(&inputs).unwrap();
        let mut last: Option<Vec<Value>> = None;
        while let Some((_, results)) = walk.step().unwrap() {
            last = Some(results);
        }
        assert_eq!(last.unwrap()[0].as_tensor().unwrap().shape(), [32, 8]);
    }
}

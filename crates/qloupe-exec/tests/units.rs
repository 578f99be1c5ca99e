//! Units of quantized programs: shortcuts against what they stand for, bit for bit.

#[cfg(test)]
mod units {
    use qloupe_exec::{
        Assignment, Form, Layout, Mode, Program, QuantizedProgram, Stored, Unit, UnitCompute, UnitSpec, Value,
    };
    use qloupe_ir::{AttributeValue, Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
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
        let grid = |dtype, scale, zero_point| QuantParams::per_tensor(dtype, scale, zero_point).unwrap();
        let moved = grid(DType::UInt8, 0.11, 140);
        let (x, y) = (grid(DType::UInt8, 0.07, 100), grid(DType::Int8, 0.09, -3));
        units_of_nodes(
            graph,
            &[("x", &x), ("y", &y), ("z", &moved), ("w", &moved)],
            &[UnitCompute::Float, UnitCompute::Float, UnitCompute::Quantized],
        )
    }

    /// A program whose units are a node each; `forms` says which values are on a grid, `computes` what each computes with.
    fn units_of_nodes(
        graph: Graph,
        forms: &[(&str, &QuantParams)],
        computes: &[UnitCompute],
    ) -> (Program, QuantizedProgram) {
        let opset_imports = vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }];
        let program = Program::new(&Model {
            opset_imports,
            graph,
            ..Model::default()
        })
        .unwrap();
        let form =
            |(name, params): &(&str, &QuantParams)| ((*name).to_owned(), Form::Quantized((*params).clone()));
        let unit = |(node_idx, &compute)| UnitSpec {
            node_idxs: vec![node_idx],
            compute,
            requantize: Requantize::FloatScaleZeroPointAfter,
            float_inputs: Vec::new(),
            weights: Vec::new(),
            bias: None,
        };
        let assignment = Assignment {
            forms: forms.iter().map(form).collect(),
            units: computes.iter().enumerate().map(unit).collect(),
        };
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

    #[test]
    fn a_constant_beside_a_value_meets_the_elements_that_float_arithmetic_gives_it() {
        struct Case {
            op_type: &'static str,
            x: &'static [usize],
            constant: &'static [usize],
            is_first: bool,
        }
        let case = |op_type, x, constant, is_first| Case {
            op_type,
            x,
            constant,
            is_first,
        };
        let cases = [
            case("Sub", &[3, 4], &[4], false),
            case("Sub", &[3, 4], &[3, 1], true),
            case("Div", &[2, 3, 4, 5], &[3, 1, 1], true),
            case("Mul", &[2, 3, 4, 5], &[1, 3, 1, 5], false),
            case("Add", &[1, 1, 4, 1], &[2, 3, 1, 5], false),
            case("Add", &[1, 5], &[3, 1], true),
        ];
        let grid = |dtype, scale, zero_point| QuantParams::per_tensor(dtype, scale, zero_point).unwrap();
        let (from, to) = (grid(DType::UInt8, 0.03, 90), grid(DType::Int8, 0.05, -7));
        for Case {
            op_type,
            x,
            constant,
            is_first,
        } in cases
        {
            let tensor = |shape: &[usize], k: f32| {
                let n: usize = shape.iter().product();
                Tensor::new(shape, (0..n).map(|i| (i as f32 * k).sin() * 2.5).collect()).unwrap()
            };
            let inputs = if is_first { ["c", "x"] } else { ["x", "c"] };
            let graph = Graph {
                inputs: vec![ValueInfo::untyped("x")],
                outputs: vec![ValueInfo::untyped("y")],
                nodes: vec![Node::new(op_type, "n", &inputs, &["y"])],
                initializers: vec![Initializer {
                    name: "c".to_owned(),
                    value: tensor(constant, 0.7).into(),
                }],
                ..Graph::default()
            };
            let plain = Stored::plain(tensor(x, 0.9));
            let nhwc = Stored::of_call(plain.to_nhwc().clone(), Layout::Nhwc);
            for compute in [UnitCompute::Float, UnitCompute::Quantized] {
                let (program, quantized) =
                    units_of_nodes(graph.clone(), &[("x", &from), ("y", &to)], &[compute]);
                let unit = &quantized.units()[0];
                assert_eq!(unit.integer_kernel(), Some("real_pairs"), "{op_type}");
                for stored in [&plain, &nhwc] {
                    let given = quantized.to_form("x", stored);
                    let real = quantized.to_float("x", &given);
                    let expected = quantized.to_form("y", &float(&program, "x", &real, "y"));
                    let place = format!("{op_type} {x:?} {constant:?} {:?}", stored.layout());
                    assert_eq!(&run(unit, given), expected.to_plain(), "{place}");
                }
            }
        }
    }

    #[test]
    fn units_that_depend_on_shapes_only_follow_the_shape_of_each_run() {
        let to = AttributeValue::Int(DType::Float32.to_onnx().into());
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y")],
            nodes: vec![
                Node::new("Shape", "shape", &["x"], &["shape"]),
                Node::new("Cast", "cast", &["shape"], &["sizes"]).with_attribute("to", to),
                Node::new("Mul", "y", &["x", "sizes"], &["y"]),
            ],
            ..Graph::default()
        };
        let params = QuantParams::per_tensor(DType::UInt8, 0.5, 0).unwrap();
        let (_, quantized) = units_of_nodes(graph, &[("x", &params)], &[UnitCompute::Float; 3]);
        for (shape, factors) in [
            ([1, 2], [1.0, 2.0]),
            ([1, 2], [1.0, 2.0]),
            ([3, 2], [3.0, 2.0]),
            ([1, 2], [1.0, 2.0]),
        ] {
            for first in [0.5_f32, 4.0] {
                let n: usize = shape.iter().product();
                let values: Vec<f32> = (0..n).map(|i| first + i as f32).collect();
                let expected: Vec<f32> = values
                    .iter()
                    .zip(factors.iter().cycle())
                    .map(|(x, f)| x * f)
                    .collect();
                let inputs = [("x".to_owned(), Tensor::new(&shape, values).unwrap())];
                let mut walk = quantized.walk(&inputs).unwrap();
                let mut n_units = 0;
                while walk.step().unwrap().is_some() {
                    n_units += 1;
                }
                assert_eq!(n_units, 3, "units that are not run come out, too");
                let y = walk.require("y").unwrap().to_plain().clone();
                assert_eq!(y.as_slice::<f32>().unwrap(), expected, "{shape:?}");
            }
        }
    }
}

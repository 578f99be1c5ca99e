//! Runs that are ended from outside. Alone in its file: an interruption is of the whole process.

#[cfg(test)]
mod interruption {
    use qloupe_exec::{
        Assignment, ExecError, Interruption, Mode, Program, QuantizedProgram, UnitCompute, UnitSpec,
    };
    use qloupe_ir::{Graph, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::{Requantize, Tensor};

    #[test]
    fn runs_end_while_it_lives_and_begin_again_after_it() {
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y")],
            nodes: vec![Node::new("Neg", "n0", &["x"], &["y"])],
            ..Graph::default()
        };
        let opset = OpsetImport {
            domain: String::new(),
            version: 13,
        };
        let program = Program::new(&Model {
            opset_imports: vec![opset],
            graph,
            ..Model::default()
        })
        .unwrap();
        let unit = UnitSpec {
            node_idxs: vec![0],
            compute: UnitCompute::Float,
            requantize: Requantize::FloatScaleZeroPointAfter,
            float_inputs: Vec::new(),
            weights: Vec::new(),
            bias: None,
        };
        let assignment = Assignment {
            forms: Default::default(),
            units: vec![unit],
        };
        let quantized = QuantizedProgram::new(&program, &assignment, Mode::FakeQuant).unwrap();
        let inputs = vec![("x".to_owned(), Tensor::vector(vec![1.0_f32]))];
        let expected = vec![("y".to_owned(), Tensor::vector(vec![-1.0_f32]))];
        let runs = || [program.run(inputs.clone()), quantized.run(&inputs)];
        assert_eq!(runs(), [Ok(expected.clone()), Ok(expected.clone())]);
        let (first, second) = (Interruption::new(), Interruption::new());
        drop(first);
        assert_eq!(runs(), [Err(ExecError::Interrupted), Err(ExecError::Interrupted)]);
        assert_eq!(ExecError::Interrupted.to_string(), "the run was interrupted");
        drop(second);
        assert_eq!(runs(), [Ok(expected.clone()), Ok(expected)]);
    }
}

//! Subgraphs, sequences, optionals and functions, through whole programs.

use qloupe_exec::Program;
use qloupe_ir::{AttributeValue, Function, Graph, Initializer, Model, Node, OpsetImport, ValueInfo};
use qloupe_tensor::Tensor;

fn graph(inputs: &[&str], outputs: &[&str], nodes: Vec<Node>) -> Graph {
    Graph {
        inputs: inputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
        outputs: outputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
        nodes,
        ..Graph::default()
    }
}

fn with_constants(mut graph: Graph, constants: &[(&str, Tensor)]) -> Graph {
    for (name, tensor) in constants {
        graph.initializers.push(Initializer {
            name: (*name).to_owned(),
            value: tensor.clone().into(),
        });
    }
    graph
}

fn body(graph: Graph) -> AttributeValue {
    AttributeValue::Graph(Box::new(graph))
}

fn run(graph: Graph, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, String> {
    let program = Program::from_graph(graph, &|_| 18).map_err(|e| e.to_string())?;
    let inputs = inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
    let outputs = program.run(inputs.collect()).map_err(|e| e.to_string())?;
    Ok(outputs.into_iter().map(|(_, tensor)| tensor).collect())
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::vector(values.to_vec())
}

#[test]
fn a_branch_sees_outer_values_and_constants() {
    let branch = |op: &str| body(graph(&[], &["r"], vec![Node::new(op, "", &["a", "k"], &["r"])]));
    let nodes = vec![
        Node::new("Neg", "", &["x"], &["a"]),
        Node::new("If", "choose", &["c"], &["y"])
            .with_attribute("then_branch", branch("Add"))
            .with_attribute("else_branch", branch("Mul")),
    ];
    let graph = with_constants(graph(&["x", "c"], &["y"], nodes), &[("k", vector(&[3.0]))]);
    for (condition, expected) in [(true, 1.0), (false, -6.0)] {
        let inputs = [("x", vector(&[2.0])), ("c", Tensor::scalar(condition))];
        assert_eq!(run(graph.clone(), &inputs), Ok(vec![vector(&[expected])]));
    }
    let inputs = [("x", vector(&[2.0])), ("c", Tensor::vector(vec![true, false]))];
    assert_eq!(
        run(graph, &inputs).unwrap_err(),
        "node \"choose\" (If), input 0: is no condition, expected one bool, got bool [2]"
    );
}

#[test]
fn an_error_in_a_subgraph_names_the_place() {
    let inner = graph(&[], &["r"], vec![Node::new("Add", "sum", &["x", "k"], &["r"])]);
    let node = Node::new("If", "outer", &["c"], &["y"])
        .with_attribute("then_branch", body(inner.clone()))
        .with_attribute("else_branch", body(inner));
    let constants = [("k", vector(&[1.0, 2.0, 3.0]))];
    let graph = with_constants(graph(&["x", "c"], &["y"], vec![node]), &constants);
    let inputs = [("x", vector(&[1.0, 2.0])), ("c", Tensor::scalar(true))];
    let error = run(graph, &inputs).unwrap_err();
    assert!(
        error.starts_with("node \"outer\" (If), in then_branch: node \"sum\" (Add), "),
        "{error}"
    );
}

#[test]
fn unsupported_operators_of_subgraphs_are_named_too() {
    let inner = graph(&[], &["r"], vec![Node::new("Nothing", "inner", &["x"], &["r"])]);
    let node = Node::new("If", "outer", &["c"], &["y"])
        .with_attribute("then_branch", body(inner.clone()))
        .with_attribute("else_branch", body(inner));
    assert_eq!(
        run(graph(&["x", "c"], &["y"], vec![node]), &[]).unwrap_err(),
        "1 unsupported operator: Nothing (2 nodes, the first is \"inner\")"
    );
}

/// Fibonacci numbers below a limit: carried values, a condition, stacked rows, a captured value.
#[test]
fn a_loop_carries_and_stacks() {
    let inner = graph(
        &["i", "goes_on", "a", "b"],
        &["again", "b_copy", "sum", "row"],
        vec![
            Node::new("Add", "", &["a", "b"], &["sum"]),
            Node::new("Identity", "", &["b"], &["b_copy"]),
            Node::new("Identity", "", &["sum"], &["row"]),
            Node::new("Less", "", &["sum", "limit"], &["again"]),
        ],
    );
    let node = Node::new("Loop", "fib", &["", "", "zero", "one"], &["a", "b", "rows"])
        .with_attribute("body", body(inner));
    let constants = [("zero", Tensor::scalar(0_f32)), ("one", Tensor::scalar(1_f32))];
    let graph = with_constants(graph(&["limit"], &["b", "rows"], vec![node]), &constants);
    let outputs = run(graph, &[("limit", Tensor::scalar(10_f32))]).unwrap();
    assert_eq!(
        outputs,
        [Tensor::scalar(13_f32), vector(&[1.0, 2.0, 3.0, 5.0, 8.0, 13.0])]
    );
}

#[test]
fn sequences_are_built_mapped_and_joined() {
    let double = graph(
        &["item"],
        &["twice"],
        vec![Node::new("Add", "", &["item", "item"], &["twice"])],
    );
    let axis = |node: Node, axis| node.with_attribute("axis", AttributeValue::Int(axis));
    let nodes = vec![
        axis(Node::new("SplitToSequence", "", &["x", "two"], &["parts"]), 0),
        Node::new("SequenceMap", "", &["parts"], &["doubled"]).with_attribute("body", body(double)),
        Node::new("SequenceEmpty", "", &[], &["empty"]),
        Node::new("SequenceAt", "", &["doubled", "last"], &["tail"]),
        Node::new("SequenceInsert", "", &["empty", "tail"], &["one_item"]),
        Node::new("SequenceInsert", "", &["one_item", "x", "zero"], &["items"]),
        Node::new("SequenceLength", "", &["items"], &["length"]),
        Node::new("SequenceErase", "", &["items", "zero"], &["rest"]),
        Node::new("Identity", "", &["items"], &["same"]),
        axis(Node::new("ConcatFromSequence", "", &["same"], &["joined"]), 0),
        axis(Node::new("ConcatFromSequence", "", &["rest"], &["stacked"]), 1)
            .with_attribute("new_axis", AttributeValue::Int(1)),
    ];
    let constants = [
        ("two", Tensor::scalar(2_i64)),
        ("last", Tensor::scalar(-1_i64)),
        ("zero", Tensor::scalar(0_i64)),
    ];
    let graph = with_constants(graph(&["x"], &["length", "joined", "stacked"], nodes), &constants);
    let outputs = run(graph, &[("x", vector(&[1.0, 2.0, 3.0]))]).unwrap();
    assert_eq!(outputs[0], Tensor::scalar(2_i64));
    assert_eq!(outputs[1], vector(&[1.0, 2.0, 3.0, 6.0]));
    assert_eq!(outputs[2], Tensor::new(&[1, 1], vec![6_f32]).unwrap());
}

#[test]
fn a_sequence_is_no_tensor() {
    let nodes = vec![
        Node::new("SequenceConstruct", "build", &["x"], &["s"]),
        Node::new("Relu", "relu", &["s"], &["y"]),
    ];
    let inputs = [("x", vector(&[1.0]))];
    assert_eq!(
        run(graph(&["x"], &["y"], nodes.clone()), &inputs).unwrap_err(),
        "node \"relu\" (Relu), input 0: is a sequence, expected a tensor"
    );
    assert_eq!(
        run(graph(&["x"], &["s"], nodes), &inputs).unwrap_err(),
        "value \"s\" is a sequence, expected a tensor"
    );
}

#[test]
fn optionals_hold_a_value_or_nothing() {
    let nodes = vec![
        Node::new("Optional", "", &["x"], &["some"]),
        Node::new("Optional", "", &[], &["none"]),
        Node::new("OptionalHasElement", "", &["some"], &["has"]),
        Node::new("OptionalHasElement", "", &["none"], &["has_not"]),
        Node::new("OptionalGetElement", "", &["some"], &["y"]),
    ];
    let outputs = run(
        graph(&["x"], &["has", "has_not", "y"], nodes),
        &[("x", vector(&[4.0]))],
    )
    .unwrap();
    assert_eq!(
        outputs,
        [Tensor::scalar(true), Tensor::scalar(false), vector(&[4.0])]
    );
}

#[test]
fn functions_of_a_model_run_as_their_bodies() {
    let import = |domain: &str| OpsetImport {
        domain: domain.to_owned(),
        version: 18,
    };
    let function = Function {
        name: "Twice".to_owned(),
        domain: "own".to_owned(),
        inputs: vec!["a".to_owned()],
        outputs: vec!["r".to_owned()],
        nodes: vec![Node::new("Add", "", &["a", "a"], &["r"])],
        opset_imports: vec![import("")],
        ..Function::default()
    };
    let call = |input: &str, output: &str| Node {
        domain: "own".to_owned(),
        ..Node::new("Twice", output, &[input], &[output])
    };
    let model = Model {
        opset_imports: vec![import(""), import("own")],
        graph: graph(&["x"], &["y"], vec![call("x", "m"), call("m", "y")]),
        functions: vec![function],
        ..Model::default()
    };
    let program = Program::new(&model).unwrap();
    let outputs = program.run(vec![("x".to_owned(), vector(&[3.0]))]).unwrap();
    assert_eq!(outputs[0].1, vector(&[12.0]));
}

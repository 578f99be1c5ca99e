//! Shifted graphs compute what the graphs before them computed, where nothing between is cut off.

use proptest::prelude::*;
use qloupe_ir::{AttributeValue, Graph, ValueInfo};

use super::super::scale_values::Joins;
use super::*;
use crate::small_networks::numbers;

/// The largest difference to the original output, as a part of its largest magnitude: float32 rounds some hundred products.
const FLOAT_TOLERANCE: f32 = 1e-5;
/// Biases this large keep every channel of the networks below away from 0.
const BIAS: f32 = 40.0;
const N: usize = 4;
const SIDE: usize = 5;

/// What is between two products.
#[derive(Clone, Copy, Debug)]
enum Between {
    Relu,
    Clip,
    Pools,
    Nothing,
}

const BETWEEN: [Between; 4] = [Between::Relu, Between::Clip, Between::Pools, Between::Nothing];

struct Network {
    graph: Graph,
    n_values: usize,
}

impl Network {
    fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, AttributeValue)]) -> String {
        let name = format!("v{}", self.n_values);
        self.n_values += 1;
        let mut node = Node::new(op_type, &name, inputs, &[&name]);
        for (attribute, value) in attributes {
            node = node.with_attribute(attribute, value.clone());
        }
        self.graph.nodes.push(node);
        name
    }

    fn constant(&mut self, tensor: Tensor) -> String {
        let name = format!("c{}", self.graph.initializers.len());
        self.graph.set_initializer(&name, tensor);
        name
    }

    fn conv(
        &mut self,
        x: &str,
        shape: &[usize; 4],
        attributes: &[(&str, AttributeValue)],
        has_bias: bool,
    ) -> String {
        let weight = self.constant(numbers(shape, 1.0));
        let mut inputs = vec![x.to_owned(), weight];
        if has_bias {
            inputs.push(self.constant(Tensor::new(&[shape[0]], vec![BIAS; shape[0]]).unwrap()));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("Conv", &inputs, attributes)
    }

    fn between(&mut self, x: &str, between: Between) -> String {
        match between {
            Between::Relu => self.node("Relu", &[x], &[]),
            Between::Clip => {
                let low = self.constant(Tensor::new(&[], vec![0.0_f32]).unwrap());
                let high = self.constant(Tensor::new(&[], vec![1e6_f32]).unwrap());
                self.node("Clip", &[x, &low, &high], &[])
            }
            Between::Pools => {
                let kernel = ("kernel_shape", AttributeValue::Ints(vec![3, 3]));
                let padded = ("pads", AttributeValue::Ints(vec![1; 4]));
                let pooled = self.node("MaxPool", &[x], &[kernel.clone(), padded.clone()]);
                self.node("AveragePool", &[&pooled], &[kernel, padded])
            }
            Between::Nothing => x.to_owned(),
        }
    }

    fn finish(mut self, output: &str) -> Graph {
        self.graph.outputs = vec![ValueInfo::untyped(output)];
        self.graph
    }
}

fn network() -> Network {
    let inputs = vec![ValueInfo::untyped("x")];
    Network {
        graph: Graph {
            inputs,
            ..Graph::default()
        },
        n_values: 0,
    }
}

/// A convolution, a depthwise one without padding, one that has no bias, pool, Gemm.
fn products(between: [Between; 3]) -> Graph {
    let mut network = network();
    let a = network.conv(
        "x",
        &[N, N, 1, 1],
        &[("pads", AttributeValue::Ints(vec![1; 4]))],
        true,
    );
    let a = network.between(&a, between[0]);
    let b = network.conv(
        &a,
        &[N, 1, 3, 3],
        &[("group", AttributeValue::Int(N as i64))],
        true,
    );
    let b = network.between(&b, between[1]);
    let c = network.conv(&b, &[N, N, 1, 1], &[], false);
    let c = network.between(&c, between[2]);
    let pooled = network.node("GlobalAveragePool", &[&c], &[]);
    let flat = network.node("Flatten", &[&pooled], &[]);
    let (weight, bias) = (
        network.constant(numbers(&[3, N], 1.0)),
        network.constant(numbers(&[3], 1.0)),
    );
    let y = network.node(
        "Gemm",
        &[&flat, &weight, &bias],
        &[("transB", AttributeValue::Int(1))],
    );
    network.finish(&y)
}

fn run(graph: &Graph, goals: &[String]) -> BTreeMap<String, Tensor> {
    let mut graph = graph.clone();
    graph.outputs = goals.iter().map(|name| ValueInfo::untyped(name)).collect();
    let program = Program::from_graph(graph, &|_| 17).unwrap();
    let input = numbers(&[2, N, SIDE, SIDE], 1.0);
    program
        .run(vec![("x".to_owned(), input)])
        .unwrap()
        .into_iter()
        .collect()
}

fn chains(graph: &Graph) -> (Vec<Chain>, BTreeMap<String, Tensor>) {
    let values: Vec<String> = graph.nodes.iter().flat_map(|node| node.outputs.clone()).collect();
    let tensors = run(graph, &values);
    let shapes = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()))
        .collect();
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    (
        find_chains(&program, &Topology::new(graph).unwrap(), &shapes),
        tensors,
    )
}

/// The least value of each channel, if that is above 0.
fn least(tensor: &Tensor) -> Vec<f32> {
    let inner: usize = tensor.shape()[2..].iter().product();
    let mut least = vec![f32::INFINITY; N];
    for (run, values) in tensor.as_slice::<f32>().unwrap().chunks(inner).enumerate() {
        least[run % N] = values.iter().copied().fold(least[run % N], f32::min);
    }
    least.into_iter().map(|least| least.max(0.0)).collect()
}

fn shifted(graph: &Graph, shifts: &[Shift]) -> Result<Graph, String> {
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let mut rewrite = Rewrite::new(graph, &program, Joins::default());
    shifts.iter().try_for_each(|shift| rewrite.shift(shift))?;
    Ok(rewrite.finish())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_keep_their_function(picks in [0_usize..4, 0_usize..4, 0_usize..4], part in 0.1_f32..1.0) {
        let graph = products(picks.map(|pick| BETWEEN[pick]));
        let (chains, tensors) = chains(&graph);
        prop_assert_eq!(chains.len(), 3);
        let shift = |chain: &Chain| Shift {
            pass: "test".to_owned(),
            values: chain.values.clone(),
            shift: least(&tensors[&chain.values[0]]).iter().map(|t| t * part).collect(),
        };
        let shifts: Vec<Shift> = chains.iter().map(shift).collect();
        prop_assert!(shifts[0].shift.iter().all(|&t| t > 1.0));
        let rewritten = shifted(&graph, &shifts).unwrap();
        let goals = [graph.outputs[0].name.clone(), shifts[0].values[0].clone()];
        let (reference, test) = (run(&graph, &goals), run(&rewritten, &goals));
        let [a, b] = [&reference, &test].map(|outputs| outputs[&goals[0]].as_slice::<f32>().unwrap());
        let largest = a.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        for (a, b) in a.iter().zip(b) {
            prop_assert!((a - b).abs() <= FLOAT_TOLERANCE * largest, "{} {}", a, b);
        }
        prop_assert!(reference[&goals[1]] != test[&goals[1]]);
    }
}

#[test]
fn a_convolution_with_padding_takes_no_shift() {
    let mut network = network();
    let a = network.conv("x", &[N, N, 1, 1], &[], true);
    let padding = [("pads", AttributeValue::Ints(vec![1; 4]))];
    let y = network.conv(&a, &[N, N, 3, 3], &padding, true);
    let graph = network.finish(&y);
    assert!(chains(&graph).0.is_empty());
    let shift = |values: &[&str], n: usize| Shift {
        pass: "test".to_owned(),
        values: values.iter().map(|&name| name.to_owned()).collect(),
        shift: vec![1.0; n],
    };
    let cases = [
        (shift(&["v0"], N), "node \"v1\" (Conv) cannot take it"),
        (shift(&["v0"], N + 1), "node \"v0\" (Conv) cannot take it"),
        (
            shift(&["v1"], N),
            "expected a value that a node produces within the model, got \"v1\"",
        ),
    ];
    for (shift, expected) in cases {
        assert_eq!(shifted(&graph, &[shift]).unwrap_err(), expected);
    }
}

#[test]
fn a_value_that_something_else_reads_is_in_no_chain() {
    for op_type in ["Sigmoid", "Exp"] {
        let mut network = network();
        let a = network.conv("x", &[N, N, 1, 1], &[], true);
        let b = network.node("Relu", &[&a], &[]);
        let c = network.conv(&b, &[N, N, 1, 1], &[], true);
        let other = network.node(op_type, &[&b], &[]);
        let y = network.node("Mul", &[&c, &other], &[]);
        assert!(chains(&network.finish(&y)).0.is_empty());
    }
}

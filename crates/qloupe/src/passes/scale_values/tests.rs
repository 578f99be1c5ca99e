//! Scaled graphs compute what the graphs before them computed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use qloupe_exec::Program;
use qloupe_ir::{AttributeValue, Graph, Node, Topology, ValueInfo};
use qloupe_tensor::Tensor;

use super::*;

/// The largest difference to the original output, as a part of its largest magnitude: float32 rounds some hundred products.
const FLOAT_TOLERANCE: f32 = 1e-4;

const N_IN: usize = 3;
const SIDE: usize = 4;

/// A graph that is built layer by layer, with numbers from a seed.
struct Builder {
    graph: Graph,
    seed: u32,
    n_values: usize,
}

impl Builder {
    fn new(seed: u32) -> Self {
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            ..Graph::default()
        };
        Self {
            graph,
            seed,
            n_values: 0,
        }
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        let mut next = || {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let unit = (self.seed >> 8) as f32 / (1 << 24) as f32 - 0.5;
            unit * (self.seed % 7 + 1) as f32
        };
        Tensor::new(shape, (0..n).map(|_| next()).collect()).unwrap()
    }

    fn constant(&mut self, shape: &[usize]) -> String {
        let name = format!("constant{}", self.graph.initializers.len());
        let tensor = self.tensor(shape);
        self.graph.set_initializer(&name, tensor);
        name
    }

    fn scalar(&mut self, value: f32) -> String {
        let name = format!("scalar{}", self.graph.initializers.len());
        self.graph
            .set_initializer(&name, Tensor::new(&[], vec![value]).unwrap());
        name
    }

    fn node(&mut self, op_type: &str, inputs: &[&str]) -> String {
        self.with(op_type, inputs, &[])
    }

    fn with(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, AttributeValue)]) -> String {
        let name = format!("v{}", self.n_values);
        self.n_values += 1;
        let mut node = Node::new(op_type, &name, inputs, &[&name]);
        for (attribute, value) in attributes {
            node = node.with_attribute(attribute, value.clone());
        }
        self.graph.nodes.push(node);
        name
    }

    /// A convolution of 3 x 3, padded, with a bias.
    fn conv(&mut self, x: &str, from: usize, to: usize, groups: usize) -> String {
        let (w, b) = (self.constant(&[to, from / groups, 3, 3]), self.constant(&[to]));
        let attributes = [
            ("pads", AttributeValue::Ints(vec![1; 4])),
            ("group", AttributeValue::Int(groups as i64)),
        ];
        self.with("Conv", &[x, &w, &b], &attributes)
    }

    fn finish(mut self, output: &str) -> Graph {
        self.graph.outputs = vec![ValueInfo::untyped(output)];
        self.graph
    }
}

/// What follows a convolution.
fn activation(builder: &mut Builder, x: &str, kind: usize, n: usize) -> String {
    match kind % 6 {
        0 => builder.node("Relu", &[x]),
        1 => builder.with("LeakyRelu", &[x], &[("alpha", AttributeValue::Float(0.2))]),
        2 => {
            let slope = builder.constant(&[n, 1, 1]);
            builder.node("PRelu", &[x, &slope])
        }
        3 => {
            let (low, high) = (builder.scalar(0.0), builder.scalar(6.0));
            builder.node("Clip", &[x, &low, &high])
        }
        4 => builder.with(
            "MaxPool",
            &[x],
            &[("kernel_shape", AttributeValue::Ints(vec![1, 1]))],
        ),
        _ => x.to_owned(),
    }
}

/// Convolutions, depthwise ones between, a residual branch, pool, Gemm.
fn convolutional(kinds: &[usize], n: usize, seed: u32) -> Graph {
    let mut builder = Builder::new(seed);
    let mut x = builder.conv("x", N_IN, n, 1);
    for (idx, kind) in kinds.iter().enumerate() {
        let before = x.clone();
        x = activation(&mut builder, &x, *kind, n);
        x = builder.conv(&x, n, n, if idx % 2 == 0 { n } else { 1 });
        if kind % 4 == 1 {
            x = builder.node("Add", &[&before, &x]);
        }
    }
    let pooled = builder.node("GlobalAveragePool", &[&x]);
    let flat = builder.node("Flatten", &[&pooled]);
    let (w, b) = (builder.constant(&[n, 5]), builder.constant(&[5]));
    let y = builder.node("Gemm", &[&flat, &w, &b]);
    builder.finish(&y)
}

/// A normalization that two products read, one of them before a bias and another product.
fn attention(n: usize, seed: u32) -> Graph {
    let mut builder = Builder::new(seed);
    let (gamma, beta) = (builder.constant(&[SIDE]), builder.constant(&[SIDE]));
    let normalized = builder.node("LayerNormalization", &["x", &gamma, &beta]);
    let (first, second) = (builder.constant(&[SIDE, n]), builder.constant(&[SIDE, n]));
    let a = builder.node("MatMul", &[&normalized, &first]);
    let b = builder.node("MatMul", &[&normalized, &second]);
    let bias = builder.constant(&[n]);
    let biased = builder.node("Add", &[&bias, &a]);
    let third = builder.constant(&[n, n]);
    let c = builder.node("MatMul", &[&biased, &third]);
    let y = builder.node("Mul", &[&b, &c]);
    builder.finish(&y)
}

/// A normalization as Keras spells it out, `x m + (beta - mean m)` with `m = gamma / deviation`, and a product after it.
fn spelled_out(n: usize, seed: u32) -> Graph {
    let mut builder = Builder::new(seed);
    let axes = [("axes", AttributeValue::Ints(vec![3]))];
    let mean = builder.with("ReduceMean", &["x"], &axes);
    let minus = builder.node("Neg", &[&mean]);
    let square = builder.node("Mul", &["x", "x"]);
    let deviation = builder.with("ReduceMean", &[&square], &axes);
    let (gamma, beta) = (builder.constant(&[SIDE]), builder.constant(&[SIDE]));
    let m = builder.node("Mul", &[&deviation, &gamma]);
    let scaled = builder.node("Mul", &["x", &m]);
    let shift = builder.node("Mul", &[&minus, &m]);
    let shift = builder.node("Add", &[&shift, &beta]);
    let normalized = builder.node("Add", &[&scaled, &shift]);
    let weight = builder.constant(&[SIDE, n]);
    let y = builder.node("MatMul", &[&normalized, &weight]);
    builder.finish(&y)
}

fn shapes(graph: &Graph, input: &Tensor) -> BTreeMap<String, Vec<usize>> {
    let mut whole = graph.clone();
    let names: Vec<String> = graph.nodes.iter().flat_map(|node| node.outputs.clone()).collect();
    whole.outputs = names.iter().map(|name| ValueInfo::untyped(name)).collect();
    let outputs = run(&whole, input);
    outputs
        .into_iter()
        .map(|(name, tensor)| (name, tensor.shape().to_vec()))
        .collect()
}

fn run(graph: &Graph, input: &Tensor) -> Vec<(String, Tensor)> {
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    program.run(vec![("x".to_owned(), input.clone())]).unwrap()
}

fn input(seed: u32) -> Tensor {
    Builder::new(seed).tensor(&[2, N_IN, SIDE, SIDE])
}

fn regions(graph: &Graph, input: &Tensor, limits: bool) -> Vec<Region> {
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let topology = Topology::new(graph).unwrap();
    let finder = Finder {
        program: &program,
        topology: &topology,
        shapes: &shapes(graph, input),
        limits,
    };
    finder.regions(BTreeSet::new())
}

/// Scales every region by numbers from 1/8 to 8, and returns how many there were and how far the output moved.
fn scaled_error(graph: &Graph, seed: u32) -> (usize, f32) {
    let input = input(seed);
    let found = regions(graph, &input, true);
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let mut rewrite = Rewrite::new(graph, &program);
    for (idx, region) in found.iter().enumerate() {
        let exponent = |channel: usize| ((channel * 5 + idx * 3 + seed as usize) % 13) as f32 / 2.0 - 3.0;
        let scaling = Scaling {
            pass: "test".to_owned(),
            values: region.values.clone(),
            axis: region.axis,
            scale: (0..region.n_channels)
                .map(|channel| exponent(channel).exp2())
                .collect(),
        };
        rewrite.scale(&scaling).unwrap();
    }
    let (reference, test) = (run(graph, &input), run(&rewrite.finish(), &input));
    let (a, b) = (
        reference[0].1.as_slice::<f32>().unwrap(),
        test[0].1.as_slice::<f32>().unwrap(),
    );
    let largest = a.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let error = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    (found.len(), error / largest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn convolutions_keep_their_function(
        kinds in proptest::collection::vec(0_usize..12, 1..5),
        n in 2_usize..6,
        seed in 0_u32..1000,
    ) {
        let (n_regions, error) = scaled_error(&convolutional(&kinds, n, seed), seed);
        prop_assert!(n_regions >= 1);
        prop_assert!(error <= FLOAT_TOLERANCE, "{error}");
    }

    #[test]
    fn products_after_a_normalization_keep_their_function(n in 2_usize..6, seed in 0_u32..1000) {
        let (n_regions, error) = scaled_error(&attention(n, seed), seed);
        prop_assert_eq!(n_regions, 2);
        prop_assert!(error <= FLOAT_TOLERANCE, "{}", error);
    }
}

#[test]
fn a_normalization_that_is_spelled_out_keeps_its_function() {
    for seed in 0..20 {
        let (n_regions, error) = scaled_error(&spelled_out(3, seed), seed);
        assert_eq!(n_regions, 1);
        assert!(error <= FLOAT_TOLERANCE, "{error}");
    }
}

#[test]
fn a_clip_gets_bounds_for_each_channel_only_where_the_target_has_them() {
    let graph = convolutional(&[3], 4, 7);
    let input = input(7);
    let with_limits: Vec<usize> = regions(&graph, &input, true)
        .iter()
        .map(|r| r.values.len())
        .collect();
    let without: Vec<usize> = regions(&graph, &input, false)
        .iter()
        .map(|r| r.values.len())
        .collect();
    assert_eq!(
        with_limits,
        [2, 3],
        "convolution and Clip; convolution, pool and Flatten"
    );
    assert_eq!(without, [3]);
}

#[test]
fn a_value_that_the_network_gives_out_or_squares_is_not_scaled() {
    let mut builder = Builder::new(1);
    let a = builder.conv("x", N_IN, 4, 1);
    let b = builder.node("Mul", &[&a, &a]);
    let c = builder.conv(&b, 4, 4, 1);
    let graph = builder.finish(&c);
    assert!(regions(&graph, &input(1), true).is_empty());
}

#[test]
fn a_weight_that_two_nodes_share_is_copied() {
    let mut builder = Builder::new(1);
    let a = builder.conv("x", N_IN, 4, 1);
    let w = builder.constant(&[4, 4, 1, 1]);
    let b = builder.node("Conv", &[&a, &w]);
    let c = builder.node("Sigmoid", &[&b]);
    let d = builder.node("Conv", &[&c, &w]);
    let graph = builder.finish(&d);
    let (n_regions, error) = scaled_error(&graph, 3);
    assert_eq!(n_regions, 1);
    assert!(error <= FLOAT_TOLERANCE, "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let graph = convolutional(&[0], 4, 1);
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let refused = |values: &[&str], scale: Vec<f32>| {
        let scaling = Scaling {
            pass: "test".to_owned(),
            values: values.iter().map(|&name| name.to_owned()).collect(),
            axis: 1,
            scale,
        };
        Rewrite::new(&graph, &program).scale(&scaling).unwrap_err()
    };
    let four = || vec![2.0; 4];
    let cases = [
        (
            refused(&["nothing"], four()),
            "expected a value that a node produces within the model, got \"nothing\"",
        ),
        (
            refused(&["x"], four()),
            "expected a value that a node produces within the model, got \"x\"",
        ),
        (refused(&["v0"], four()), "node \"v1\" (Relu) cannot take it"),
        (
            refused(&["v0", "v1"], vec![2.0; 3]),
            "node \"v0\" (Conv) cannot take it",
        ),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
}

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

/// Branches of several widths that Concats join, one of them twice, one with a member that nothing can scale, one around a
/// residual branch; a Split that takes a value apart again.
fn joined(kinds: &[usize], widths: [usize; 2], seed: u32) -> Graph {
    let mut builder = Builder::new(seed);
    let axis = [("axis", AttributeValue::Int(1))];
    let branch = |builder: &mut Builder, n: usize, kind: usize| {
        let x = builder.conv("x", N_IN, n, 1);
        activation(builder, &x, kind, n)
    };
    let [n, m] = widths;
    let a = branch(&mut builder, n, kinds[0]);
    let b = branch(&mut builder, m, kinds[1]);
    let gate = builder.node("Sigmoid", &["x"]);
    let first = builder.with("Concat", &[&a, &gate, &b], &axis);
    let first = activation(&mut builder, &first, kinds[2], n + N_IN + m);
    let c = builder.conv(&first, n + N_IN + m, n + m, 1);
    let second = builder.with("Concat", &[&b, &a], &[("axis", AttributeValue::Int(-3))]);
    let sum = builder.node("Add", &[&c, &second]);
    let split = builder.constant(&[2]);
    let sizes = Tensor::new(&[2], vec![m as i64, n as i64]).unwrap();
    builder.graph.set_initializer(&split, sizes);
    let parts = [format!("{sum}_0"), format!("{sum}_1")];
    let node = Node::new("Split", &parts[0], &[&sum, &split], &[&parts[0], &parts[1]]);
    builder
        .graph
        .nodes
        .push(node.with_attribute("axis", AttributeValue::Int(1)));
    let left = builder.conv(&parts[0], m, 2, 1);
    let right = builder.conv(&parts[1], n, 2, 1);
    let y = builder.node("Mul", &[&left, &right]);
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

fn joins(graph: &Graph, input: &Tensor) -> Joins {
    let mut shapes = shapes(graph, input);
    shapes.insert("x".to_owned(), input.shape().to_vec());
    let dims = |name: &str, axis: usize| shapes.get(name)?.get(axis).copied();
    Joins::of_graph(graph, &|name| Some(shapes.get(name)?.len()), &dims)
}

fn regions(graph: &Graph, input: &Tensor, limits: bool) -> Vec<Region> {
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let topology = Topology::new(graph).unwrap();
    let finder = Finder {
        program: &program,
        topology: &topology,
        shapes: &shapes(graph, input),
        joins: &joins(graph, input),
        limits,
    };
    finder.regions(BTreeSet::new())
}

/// The graph with every region scaled by two to the power of halves from -3 to 3, or of whole numbers.
fn scaled(graph: &Graph, input: &Tensor, regions: &[Region], seed: u32, is_whole: bool) -> Graph {
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let mut rewrite = Rewrite::new(graph, &program, joins(graph, input));
    let mut scalings = Vec::new();
    for (idx, region) in regions.iter().enumerate() {
        let exponent = |channel: usize| ((channel * 5 + idx * 3 + seed as usize) % 13) as f32 / 2.0 - 3.0;
        let whole = |exponent: f32| if is_whole { exponent.floor() } else { exponent };
        let scale = |channel: usize| match region.is_pinned[channel] {
            true => 1.0,
            false => whole(exponent(channel)).exp2(),
        };
        let scale: Vec<f32> = (0..region.n_channels).map(scale).collect();
        scalings.extend(region.scalings("test", &scale));
    }
    for scaling in &scalings {
        rewrite.scale(scaling, &scalings).unwrap();
    }
    rewrite.finish()
}

/// Scales every region, and returns how many there were and how far the output moved.
fn scaled_error(graph: &Graph, seed: u32) -> (usize, f32) {
    let input = input(seed);
    let found = regions(graph, &input, true);
    let rewritten = scaled(graph, &input, &found, seed, false);
    let (reference, test) = (run(graph, &input), run(&rewritten, &input));
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
    fn concats_keep_their_function(
        kinds in proptest::collection::vec(0_usize..6, 3),
        widths in [1_usize..5, 2_usize..5],
        seed in 0_u32..1000,
    ) {
        let graph = joined(&kinds, widths, seed);
        let (n_regions, error) = scaled_error(&graph, seed);
        prop_assert_eq!(n_regions, 1);
        prop_assert!(error <= FLOAT_TOLERANCE, "{}", error);
    }

    #[test]
    fn powers_of_two_change_no_bit_behind_a_concat(
        kinds in proptest::collection::vec(0_usize..6, 3),
        widths in [1_usize..5, 2_usize..5],
        seed in 0_u32..1000,
    ) {
        let graph = joined(&kinds, widths, seed);
        let input = input(seed);
        let rewritten = scaled(&graph, &input, &regions(&graph, &input, true), seed, true);
        prop_assert!(rewritten != graph);
        prop_assert_eq!(run(&graph, &input), run(&rewritten, &input));
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
fn a_member_that_cannot_be_scaled_keeps_its_scale_and_the_others_have_their_own() {
    let graph = joined(&[0, 0, 0], [2, 3], 1);
    let found = regions(&graph, &input(1), true);
    let [region] = &found[..] else { panic!("{found:?}") };
    let channels = |name: &str| &region.values.iter().find(|(value, _)| value == name).unwrap().1;
    let n_pinned = region.is_pinned.iter().filter(|pinned| **pinned).count();
    assert_eq!(n_pinned, N_IN, "those of the Sigmoid");
    assert_eq!(region.n_channels, 2 + 3 + N_IN);
    let (a, b) = (channels("v1"), channels("v3"));
    let expected = [b.as_slice(), a].concat();
    let second = region.joins.iter().find(|join| join.members.len() == 2).unwrap();
    assert_eq!(channels(&second.whole), &expected);
}

#[test]
fn scales_that_a_concat_does_not_join_are_refused() {
    let graph = joined(&[0, 0, 0], [2, 3], 1);
    let input = input(1);
    let program = Program::from_graph(graph.clone(), &|_| 17).unwrap();
    let found = regions(&graph, &input, true);
    let scale: Vec<f32> = found[0]
        .is_pinned
        .iter()
        .map(|pinned| if *pinned { 1.0 } else { 2.0 })
        .collect();
    let fitting = found[0].scalings("test", &scale);
    for idx in 0..fitting.len() {
        let mut scalings = fitting.clone();
        scalings[idx].scale[0] *= 2.0;
        let mut rewrite = Rewrite::new(&graph, &program, joins(&graph, &input));
        let outcome: Result<Vec<()>, String> = scalings
            .iter()
            .map(|scaling| rewrite.scale(scaling, &scalings))
            .collect();
        let error = outcome.unwrap_err();
        assert!(error.contains("cannot take it"), "{error}");
    }
}

#[test]
fn zeros_around_a_value_and_another_size_pass_scales_on() {
    let padded_by = |value: f32| {
        let mut builder = Builder::new(1);
        let a = builder.conv("x", N_IN, 4, 1);
        let pads = Tensor::new(&[8], vec![0_i64, 0, 1, 0, 0, 0, 0, 1]).unwrap();
        builder.graph.set_initializer("pads", pads);
        let scales = Tensor::new(&[4], vec![1.0_f32, 1.0, 2.0, 1.5]).unwrap();
        builder.graph.set_initializer("scales", scales);
        let value = builder.scalar(value);
        let b = builder.node("Pad", &[&a, "pads", &value]);
        let c = builder.node("Resize", &[&b, "", "scales"]);
        let d = builder.conv(&c, 4, 4, 1);
        builder.finish(&d)
    };
    let (n_regions, error) = scaled_error(&padded_by(0.0), 3);
    assert_eq!(n_regions, 1);
    assert!(error <= FLOAT_TOLERANCE, "{error}");
    assert!(regions(&padded_by(1.0), &input(3), true).is_empty());
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
        let mut rewrite = Rewrite::new(&graph, &program, Joins::default());
        rewrite
            .scale(&scaling, std::slice::from_ref(&scaling))
            .unwrap_err()
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

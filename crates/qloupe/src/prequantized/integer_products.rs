//! MatMulInteger and ConvInteger with what makes real numbers of their sums: Cast, then Mul by the scales.

use std::collections::BTreeMap;

use qloupe_ir::{Graph, Node, Topology};
use qloupe_tensor::DType;

/// A product of integers whose sums are scaled to real numbers.
#[derive(Debug)]
pub(super) struct Scaled {
    /// MatMulInteger or ConvInteger.
    pub(super) product: Node,
    /// The scale of each operand.
    pub(super) scales: [String; 2],
    /// The real result.
    pub(super) output: String,
    /// Every node that it stands for, but the last.
    pub(super) replaced: Vec<usize>,
}

impl Scaled {
    /// The integers of an operand.
    pub(super) fn integers(&self, idx: usize) -> &str {
        &self.product.inputs[idx]
    }

    /// The zero point of an operand.
    pub(super) fn zero_point(&self, idx: usize) -> Option<&str> {
        self.product.input(idx + 2)
    }
}

/// Every scaled product, by the index of the Mul that ends it.
pub(super) fn find_scaled(graph: &Graph, topology: &Topology) -> BTreeMap<usize, Scaled> {
    let finder = Finder { graph, topology };
    let products = graph.nodes.iter().enumerate();
    products
        .filter(|(_, node)| node.is_onnx("MatMulInteger") || node.is_onnx("ConvInteger"))
        .filter_map(|(idx, _)| finder.scaled(idx))
        .collect()
}

struct Finder<'a> {
    graph: &'a Graph,
    topology: &'a Topology,
}

impl Finder<'_> {
    fn scaled(&self, product_idx: usize) -> Option<(usize, Scaled)> {
        let product = &self.graph.nodes[product_idx];
        let cast_idx = self.only_consumer(product_idx)?;
        let cast = &self.graph.nodes[cast_idx];
        let to_float = cast.int("to") == Some(i64::from(DType::Float32.to_onnx()));
        if !cast.is_onnx("Cast") || !to_float {
            return None;
        }
        let known = [self.scale_of(product.input(0)?), self.scale_of(product.input(1)?)];
        let mut replaced = vec![product_idx, cast_idx];
        let mut factors: Vec<&str> = Vec::new();
        // The scales are one product, or are multiplied one after the other.
        for _ in 0..2 {
            let from = *replaced.last()?;
            let mul_idx = self.only_consumer(from)?;
            let mul = &self.graph.nodes[mul_idx];
            let sum = self.graph.nodes[from].output(0)?;
            if !mul.is_onnx("Mul") {
                return None;
            }
            let factor = mul.inputs.iter().find(|name| name.as_str() != sum)?;
            factors.extend(self.factors(factor));
            if let Some(scales) = assign(&known, &factors) {
                let scaled = Scaled {
                    product: product.clone(),
                    scales,
                    output: mul.output(0)?.to_owned(),
                    replaced,
                };
                return Some((mul_idx, scaled));
            }
            replaced.push(mul_idx);
        }
        None
    }

    /// The scale of integers that a node of the graph made.
    fn scale_of(&self, integers: &str) -> Option<&str> {
        let producer = &self.graph.nodes[self.topology.producer(integers)?];
        if producer.is_onnx("DynamicQuantizeLinear") {
            producer.output(1)
        } else if producer.is_onnx("QuantizeLinear") {
            producer.input(1)
        } else {
            None
        }
    }

    /// The two factors of a product of scales, or the scale itself.
    fn factors<'g>(&'g self, name: &'g str) -> Vec<&'g str> {
        let producer = self.topology.producer(name).map(|idx| &self.graph.nodes[idx]);
        match producer {
            Some(mul) if mul.is_onnx("Mul") => mul.inputs.iter().map(String::as_str).collect(),
            _ => vec![name],
        }
    }

    fn only_consumer(&self, idx: usize) -> Option<usize> {
        let output = self.graph.nodes[idx].output(0)?;
        let is_output = self.graph.is_output(output);
        match self.topology.consumers(output) {
            [next] if !is_output => Some(*next),
            _ => None,
        }
    }
}

/// Which factor is the scale of which operand: a factor that is no known scale is that of the operand without one.
fn assign(known: &[Option<&str>; 2], factors: &[&str]) -> Option<[String; 2]> {
    let [a, b] = factors else { return None };
    let fits = |scale: Option<&str>, factor: &str| scale.is_none_or(|scale| scale == factor);
    if known.iter().all(Option::is_none) {
        return None;
    }
    for (first, second) in [(a, b), (b, a)] {
        if fits(known[0], first) && fits(known[1], second) {
            return Some([(*first).to_owned(), (*second).to_owned()]);
        }
    }
    None
}

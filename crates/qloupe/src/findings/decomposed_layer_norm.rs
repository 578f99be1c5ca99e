//! A layer normalization that is spelled out in operators, each of which is quantized.

use super::{Case, Pattern};
use crate::report::Finding;

pub(super) struct DecomposedLayerNorm;

impl Pattern for DecomposedLayerNorm {
    fn id(&self) -> &'static str {
        "decomposed_layer_norm"
    }

    fn title(&self) -> &'static str {
        "a layer normalization in pieces"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (node, output) in case.nodes_of("ReduceMean") {
            // The variance: the mean of a square, which a Sqrt follows.
            let squared = node.input(0).and_then(|name| case.producer(name));
            let is_square = squared.is_some_and(|node| node.is_onnx("Pow") || node.is_onnx("Mul"));
            let is_whole = case.unit_of(node).is_some_and(|unit| unit.pattern.is_some());
            let next: Vec<_> = case.consumers(output).collect();
            let roots = next.iter().any(|node| {
                let after = node
                    .output(0)
                    .map(|name| case.consumers(name).any(|node| node.is_onnx("Sqrt")));
                node.is_onnx("Sqrt") || (node.is_onnx("Add") && after == Some(true))
            });
            if !is_square || is_whole || !roots || case.step(output).is_none() {
                continue;
            }
            let (_, max) = case.range(output).unwrap_or_default();
            found.extend(case.pattern(
                self.id(),
                output,
                (
                    "the pieces of a layer normalization are quantized one by one: squares and means need more than 8 bits"
                        .to_owned(),
                    format!("the variance reaches {max:.4}"),
                    "export the model with opset 17, where LayerNormalization is one operator, or keep its pieces in fp16"
                        .to_owned(),
                ),
            ));
        }
        found
    }
}

//! The halves of x * sigmoid(x) quantized one by one, where the target does not fuse them.

use super::{Case, Pattern};
use crate::report::Finding;

pub(super) struct SwishRange;

impl Pattern for SwishRange {
    fn id(&self) -> &'static str {
        "swish_range"
    }

    fn title(&self) -> &'static str {
        "a swish whose halves are quantized"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (node, output) in case.nodes_of("Mul") {
            let gate_of = |gate: &&String| {
                let producer = case.producer(gate)?;
                let x = producer.input(0).filter(|_| producer.is_onnx("Sigmoid"))?;
                node.inputs.iter().any(|name| name == x).then_some(x)
            };
            let Some((gate, x)) = node.inputs.iter().find_map(|gate| Some((gate, gate_of(&gate)?))) else {
                continue;
            };
            let is_fused = case.unit_of(node).is_some_and(|unit| unit.pattern.is_some());
            let (Some(step), Some((_, max)), false) = (case.step(output), case.range(x), is_fused) else {
                continue;
            };
            found.extend(case.pattern(
                self.id(),
                output,
                (
                    format!("\"{x}\", its sigmoid \"{gate}\" and their product are each rounded"),
                    format!("the product is at least -0.28 and reaches {max:.2}; one step is {step:.4}"),
                    "a target that fuses the swish rounds once; else keep the product in fp16".to_owned(),
                ),
            ));
        }
        found
    }
}

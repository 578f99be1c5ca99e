//! A gate of one number for each channel (squeeze and excite): its rounding scales whole channels.

use super::{Case, Pattern};
use crate::report::Finding;

pub(super) struct SqueezeExcite;

impl Pattern for SqueezeExcite {
    fn id(&self) -> &'static str {
        "squeeze_excite"
    }

    fn title(&self) -> &'static str {
        "a quantized gate that scales whole channels"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (node, output) in case.nodes_of("Mul") {
            let is_gate = |name: &&String| {
                let producer = case.producer(name);
                let is_sigmoid = producer.is_some_and(|n| n.is_onnx("Sigmoid") || n.is_onnx("HardSigmoid"));
                let shape = case.layer(name).map(|layer| layer.shape.as_slice());
                is_sigmoid && matches!(shape, Some([_, _, 1, 1]))
            };
            let Some(gate) = node.inputs.iter().find(is_gate) else {
                continue;
            };
            let Some(step) = case.step(gate) else { continue };
            found.extend(case.pattern(
                self.id(),
                gate,
                (
                    format!("\"{gate}\" scales every channel of \"{output}\": its rounding is an error of whole channels"),
                    format!("one step is {step:.5}"),
                    format!("keep \"{gate}\" and the layers before it in fp16: they are small"),
                ),
            ));
        }
        found
    }
}

//! A product with an activation that is not fused, because something else reads the product too.

use super::{Case, Pattern};
use crate::report::Finding;
use crate::units::is_product;

const ACTIVATIONS: &[&str] = &["Relu", "Clip", "Sigmoid", "HardSwish", "LeakyRelu"];

pub(super) struct SecondConsumer;

impl Pattern for SecondConsumer {
    fn id(&self) -> &'static str {
        "second_consumer"
    }

    fn title(&self) -> &'static str {
        "a second reader that prevents a fusion"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for node in case.nodes().iter().filter(|node| is_product(node)) {
            let Some(output) = node.output(0) else { continue };
            let readers: Vec<_> = case.consumers(output).collect();
            let activation = readers
                .iter()
                .find(|node| ACTIVATIONS.contains(&node.op_type.as_str()));
            let Some(activation) = activation.filter(|_| readers.len() > 1) else {
                continue;
            };
            // x * sigmoid(x) is one activation with two readers.
            let is_gate = activation.is_onnx("Sigmoid") || activation.is_onnx("HardSigmoid");
            let is_swish = activation.output(0).filter(|_| is_gate).is_some_and(|gate| {
                let mut after = case.consumers(gate);
                after.any(|node| node.is_onnx("Mul") && node.inputs.iter().any(|name| name == output))
            });
            if is_swish || case.step(output).is_none() {
                continue;
            }
            let others: Vec<&str> = readers
                .iter()
                .filter(|reader| reader.output(0) != activation.output(0))
                .map(|node| node.label())
                .collect();
            found.extend(case.pattern(
                self.id(),
                output,
                (
                    format!(
                        "\"{}\" could be fused with its {}, but \"{}\" reads it too: it is quantized in between",
                        node.label(),
                        activation.op_type,
                        others.join("\", \"")
                    ),
                    format!("{} readers", readers.len()),
                    "let the other reader take the activation's output, or compute it after the network".to_owned(),
                ),
            ));
        }
        found
    }
}

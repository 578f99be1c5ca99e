//! The expected value of a distribution (distribution focal loss): a Softmax and a convolution with the numbers 0, 1, 2 ..

use super::{Case, Pattern};
use crate::report::Finding;

/// Operators that may stand between.
const MOVING: &[&str] = &["Reshape", "Transpose", "Identity"];
/// Numbers further from 0, 1, 2 .. are other weights.
const TOLERANCE: f32 = 1e-3;

pub(super) struct DflHead;

impl Pattern for DflHead {
    fn id(&self) -> &'static str {
        "dfl_head"
    }

    fn title(&self) -> &'static str {
        "boxes from a distribution: Softmax, then a sum with 0, 1, 2 .."
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (_, softmax) in case.nodes_of("Softmax") {
            let mut at = softmax;
            while let Some(next) = case
                .consumers(at)
                .next()
                .filter(|n| MOVING.contains(&n.op_type.as_str()))
            {
                let Some(output) = next.output(0) else { break };
                at = output;
            }
            let Some(sum) = case.consumers(at).next() else {
                continue;
            };
            let weight = sum
                .inputs
                .iter()
                .find_map(|name| case.prepared.program.constant(name));
            let is_counting = weight
                .and_then(|weight| weight.as_slice::<f32>())
                .is_some_and(|values| {
                    let near = |(i, v): (usize, &f32)| (v - i as f32).abs() < TOLERANCE;
                    values.len() > 2 && values.iter().enumerate().all(near)
                });
            let Some(step) = case.step(softmax).filter(|_| is_counting) else {
                continue;
            };
            let output = sum.output(0).unwrap_or(softmax);
            found.extend(case.pattern(
                self.id(),
                output,
                (
                    "box edges are sums over a quantized distribution: small probabilities are lost, their weights are not"
                        .to_owned(),
                    format!("one step of \"{softmax}\" is {step:.5}"),
                    format!("keep \"{softmax}\" and \"{output}\" in fp16, or cut the head before the Softmax"),
                ),
            ));
        }
        found
    }
}

//! An output that joins values of very different size in integers: better joined after the network.

use super::{Case, Pattern};
use crate::report::{Action, Finding};

/// Members whose largest values are this far apart do not share a scale of 8 bits well.
const LEAST_RATIO: f32 = 32.0;

pub(super) struct CutHead;

impl Pattern for CutHead {
    fn id(&self) -> &'static str {
        "cut_head"
    }

    fn title(&self) -> &'static str {
        "an output that joins values of very different size"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (node, output) in case.nodes_of("Concat") {
            let is_output = case.prepared.model.graph.is_output(output);
            let Some(step) = case.step(output).filter(|_| is_output) else {
                continue;
            };
            let sizes: Vec<f32> = node
                .inputs
                .iter()
                .filter_map(|name| case.range(name))
                .map(|(min, max)| max.max(-min))
                .collect();
            let largest = sizes.iter().copied().fold(0.0, f32::max);
            let least = sizes.iter().copied().fold(f32::INFINITY, f32::min);
            if sizes.len() < 2 || least <= 0.0 || largest / least < LEAST_RATIO {
                continue;
            }
            let finding = case.pattern(
                self.id(),
                output,
                (
                    "boxes and scores, or the like, share the scale of the network output".to_owned(),
                    format!("members reach from {least:.3} to {largest:.3}, one step is {step:.4}"),
                    format!(
                        "cut the head here and join on the CPU: --crop-outputs {}",
                        node.inputs.join(",")
                    ),
                ),
            );
            found.extend(finding.map(|finding| Finding {
                action: Some(Action::RescaleConcat {
                    value: output.to_owned(),
                }),
                ..finding
            }));
        }
        found
    }
}

//! A mask of minus infinity, or near it, that is added to quantized values: it takes the whole range.

use super::{Case, Pattern};
use crate::report::{Action, Finding, Severity};

/// Numbers below this are masks.
const MASK: f32 = -1e3;

pub(super) struct HugeMask;

impl Pattern for HugeMask {
    fn id(&self) -> &'static str {
        "huge_mask"
    }

    fn title(&self) -> &'static str {
        "a mask of very large negative numbers in a quantized value"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for op_type in ["Add", "Sub", "Where"] {
            for (node, output) in case.nodes_of(op_type) {
                let least = |name: &String| {
                    let constant = case.prepared.program.constant(name);
                    let constant = constant.and_then(|c| c.as_slice::<f32>()).unwrap_or_default();
                    constant.iter().copied().fold(0.0, f32::min)
                };
                let mask = node.inputs.iter().map(least).fold(0.0, f32::min);
                let Some(step) = case.step(output).filter(|_| mask < MASK) else {
                    continue;
                };
                found.push(Finding {
                    id: self.id().to_owned(),
                    severity: Severity::Warning,
                    layer: Some(
                        case.row(output)
                            .map_or(output, |row| row.name.as_str())
                            .to_owned(),
                    ),
                    cause: format!(
                        "a mask of {mask:e} takes the whole range: everything else becomes one number"
                    ),
                    evidence: format!("one step of \"{output}\" is {step:.3}"),
                    fix: "use a mask of about -50 before a Softmax, or keep the value in fp16".to_owned(),
                    effect_db: case.unit_cost_db(output),
                    action: Some(Action::SetPrecision {
                        value: output.to_owned(),
                        precision: "fp16".to_owned(),
                    }),
                    tried: None,
                });
            }
        }
        found
    }
}

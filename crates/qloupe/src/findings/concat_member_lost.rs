//! A member of a Concat or an Add that is smaller than one step of the result: it is rounded to nothing.

use super::{Case, Pattern};
use crate::report::{Action, Finding, Severity};

pub(super) struct ConcatMemberLost;

impl Pattern for ConcatMemberLost {
    fn id(&self) -> &'static str {
        "concat_member_lost"
    }

    fn title(&self) -> &'static str {
        "a member of a Concat or an Add below one step of the result"
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (op_type, verb) in [("Concat", "shares one scale with"), ("Add", "is added to")] {
            for (node, output) in case.nodes_of(op_type) {
                let Some(step) = case.step(output) else { continue };
                for name in &node.inputs {
                    let Some((min, max)) = case.range(name) else {
                        continue;
                    };
                    let largest = max.max(-min);
                    if largest <= 0.0 || largest >= step {
                        continue;
                    }
                    let is_concat = op_type == "Concat";
                    let fix = if is_concat {
                        format!(
                            "bring the members to one magnitude (--optimization-level 1 does behind the last \
                             products, 2 before them), or cut the head before \
                             \"{}\" and join on the CPU: --crop-outputs {}",
                            node.label(),
                            node.inputs.join(",")
                        )
                    } else {
                        format!("keep \"{output}\" in fp16: precision = \"fp16\" in the plan")
                    };
                    found.push(Finding {
                        id: self.id().to_owned(),
                        severity: if is_concat {
                            Severity::Error
                        } else {
                            Severity::Info
                        },
                        layer: Some(output.to_owned()),
                        cause: format!("\"{name}\" {verb} values that are orders of magnitude larger"),
                        evidence: format!(
                            "its largest value is {largest:.4}, one step of \"{output}\" is {step:.4}"
                        ),
                        fix,
                        effect_db: case.unit_cost_db(output),
                        action: is_concat.then(|| Action::RescaleConcat {
                            value: output.to_owned(),
                        }),
                        tried: None,
                    });
                }
            }
        }
        found
    }
}

//! An output, or a slice of one, that is all zero although the float model's is not.

use super::{Case, Pattern};
use crate::report::{Finding, Severity};

pub(super) struct DeadOutput;

impl Pattern for DeadOutput {
    fn id(&self) -> &'static str {
        "dead_output"
    }

    fn title(&self) -> &'static str {
        "an output, or a part of one, that is all zero"
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for output in &case.report.outputs {
            let dead = |what: String| Finding {
                id: self.id().to_owned(),
                severity: Severity::Error,
                layer: Some(output.name.clone()),
                cause: format!("{what} is all zero, the float model's is not"),
                evidence: format!("every element, {} samples", case.report.samples.n),
                fix: "raise the value that it comes from to fp16 in the plan, or cut the head before it"
                    .to_owned(),
                effect_db: None,
                action: None,
                tried: None,
            };
            if output.dead {
                found.push(dead(format!("output \"{}\"", output.name)));
            }
            for slice in output.slices.iter().filter(|slice| slice.dead && !output.dead) {
                let label = slice.label.as_ref();
                let label = label.map_or_else(String::new, |label| format!(" (from \"{label}\")"));
                found.push(dead(format!(
                    "output \"{}\" [{}..{}] of axis {}{label}",
                    output.name, slice.start, slice.end, slice.axis
                )));
            }
        }
        found
    }
}

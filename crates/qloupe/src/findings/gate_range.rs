//! A Sigmoid or Softmax whose range reaches beyond what it can give: integers that are never used.

use super::{Case, Pattern};
use crate::report::{Action, Finding, ValueRange};

/// Both give numbers from 0 to 1.
const LARGEST: f32 = 1.0;
/// A range wider than this wastes integers.
const SLACK: f32 = 1.1;

pub(super) struct GateRange;

impl Pattern for GateRange {
    fn id(&self) -> &'static str {
        "gate_range"
    }

    fn title(&self) -> &'static str {
        "a Sigmoid or Softmax with a range beyond 0 to 1"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for op_type in ["Sigmoid", "HardSigmoid", "Softmax"] {
            for (_, output) in case.nodes_of(op_type) {
                let params = case.forms.get(output).and_then(|form| form.params());
                let Some(params) = params.filter(|params| params.as_per_tensor().is_some()) else {
                    continue;
                };
                let (low, high) = params.real_range(0);
                if high - low <= f64::from(LARGEST * SLACK) {
                    continue;
                }
                let finding = case.pattern(
                    self.id(),
                    output,
                    (
                        format!("a {op_type} gives 0 to 1, its scale holds {low:.2} to {high:.2}"),
                        format!("{:.0}% of its integers are never used", 100.0 * (1.0 - 1.0 / (high - low))),
                        "give the value the range 0 to 1; a scale that it shares with another value has to be its own"
                            .to_owned(),
                    ),
                );
                found.extend(finding.map(|finding| Finding {
                    action: Some(Action::SetRange {
                        value: output.to_owned(),
                        range: ValueRange {
                            min: 0.0,
                            max: f64::from(LARGEST),
                        },
                    }),
                    ..finding
                }));
            }
        }
        found
    }
}

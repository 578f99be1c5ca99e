//! Nodes on integers that a plan cannot say: they run as they are, and what they lose is in both runs.

use std::collections::BTreeMap;

use super::{Subject, finding, some_of};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for kept in &subject.reading.kept {
        groups
            .entry((&kept.op_type, &kept.reason))
            .or_default()
            .push(&kept.node);
    }
    let groups = groups.into_iter();
    groups
        .map(|((op_type, reason), nodes)| {
            let cause = format!("{} {op_type} stay in the float twin: {reason}", nodes.len());
            let fix = "compare with the float model, `analyze MODEL --quantized`: against its own weights, what such a \
                       node loses is in the reference, too";
            finding("not_expressed", Severity::Warning, nodes[0], cause, some_of(&nodes), fix)
        })
        .collect()
}

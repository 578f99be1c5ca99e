//! Units that run in float between units that run in integers: each costs casts.

use std::collections::BTreeMap;

use qloupe_exec::UnitCompute;
use qloupe_ir::Node;

use super::{Case, Pattern};
use crate::report::{Finding, Severity};
use crate::units::unit_outputs;

pub(super) struct FallbackCast;

impl Pattern for FallbackCast {
    fn id(&self) -> &'static str {
        "fallback_cast"
    }

    fn title(&self) -> &'static str {
        "operators without integers between operators with them"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let prepared = case.prepared;
        if prepared.target.keeps_values_float() {
            return Vec::new();
        }
        let specs = prepared.assignment(case.plan).units;
        let computes_in_integers = |node: &Node| {
            let unit = case.unit_of(node);
            let idx = unit.and_then(|unit| prepared.units.iter().position(|u| std::ptr::eq(u, unit)));
            idx.is_some_and(|idx| specs[idx].compute == UnitCompute::Quantized)
        };
        let mut by_operator: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (unit, spec) in prepared.units.iter().zip(&specs) {
            let nodes = unit.node_idxs.iter().map(|&idx| &case.nodes()[idx]);
            let reads_integers = nodes
                .flat_map(|node| &node.inputs)
                .filter_map(|name| case.producer(name))
                .any(computes_in_integers);
            let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
            let Some(&output) = outputs.first() else { continue };
            let is_read_by_integers = case.consumers(output).any(computes_in_integers);
            if spec.compute != UnitCompute::Quantized && reads_integers && is_read_by_integers {
                let op_type = case.nodes()[unit.main_idx].op_type.as_str();
                by_operator.entry(op_type).or_default().push(output);
            }
        }
        let finding = |(op_type, outputs): (&str, Vec<&str>)| Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            layer: outputs.first().map(|&name| name.to_owned()),
            cause: format!("{} {op_type} run in float between integers", outputs.len()),
            evidence: format!(
                "operators before and after compute in integers on {}",
                prepared.target.id
            ),
            fix: "casts cost time, not accuracy: replace the operator, or keep its neighbours in fp16 too"
                .to_owned(),
            effect_db: None,
            action: None,
            tried: None,
        };
        by_operator.into_iter().map(finding).collect()
    }
}

//! Units that run in float between units that run in integers: each costs casts.

use std::collections::BTreeMap;

use qloupe_exec::Form;

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
        if prepared.target.activation.is_none() {
            return Vec::new();
        }
        let is_integer = |name: &str| matches!(case.forms.get(name), Some(Form::Quantized(_)));
        let mut by_operator: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for unit in &prepared.units {
            let nodes = unit.node_idxs.iter().map(|&idx| &case.nodes()[idx]);
            let reads_integer = nodes.flat_map(|node| &node.inputs).any(|name| is_integer(name));
            let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
            let Some(&output) = outputs.first() else { continue };
            let is_float = outputs.iter().all(|name| {
                matches!(
                    case.forms.get(*name),
                    Some(Form::Float { .. } | Form::Fp16 { .. })
                )
            });
            let is_read = case.consumers(output).next().is_some();
            if reads_integer && is_float && is_read {
                let op_type = case.nodes()[unit.main_idx].op_type.as_str();
                by_operator.entry(op_type).or_default().push(output);
            }
        }
        let finding = |(op_type, outputs): (&str, Vec<&str>)| Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            layer: outputs.first().map(|&name| name.to_owned()),
            cause: format!("{} {op_type} run in float between integers", outputs.len()),
            evidence: format!("each reads integers and gives float on {}", prepared.target.id),
            fix: "casts cost time, not accuracy: replace the operator, or keep its neighbours in fp16 too"
                .to_owned(),
            effect_db: None,
            action: None,
            tried: None,
        };
        by_operator.into_iter().map(finding).collect()
    }
}

//! Values that are NaN or infinite under test.

use super::{Case, Pattern};
use crate::report::{Action, Finding, Layer, Severity, View, figure_of};

pub(super) struct NotFinite;

impl Pattern for NotFinite {
    fn id(&self) -> &'static str {
        "not_finite"
    }

    fn title(&self) -> &'static str {
        "NaN or infinite values"
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let bad = |layer: &Layer| layer.n_nan + layer.n_infinite > 0;
        let inherits = |layer: &Layer| {
            let unit = case.producer(&layer.name).and_then(|node| case.unit_of(node));
            let nodes = unit.into_iter().flat_map(|unit| &unit.node_idxs);
            let mut read = nodes.flat_map(|&idx| &case.nodes()[idx].inputs);
            read.any(|name| {
                case.row(name)
                    .is_some_and(|row| row.name != layer.name && bad(row))
            })
        };
        let origins = case.report.layers.iter();
        let origins = origins.filter(|layer| bad(layer) && !inherits(layer));
        origins
            .map(|layer| {
                let (cause, in_float) = match rounded_to_zero(case, layer) {
                    Some((op_type, name, step)) => (
                        format!("{op_type} has no value at 0, and elements of \"{name}\" below half a step ({step:.5}) become 0"),
                        name,
                    ),
                    None if layer.dtype == "float16" => {
                        ("float16 holds NaN or infinite values".to_owned(), layer.name.as_str())
                    }
                    None => ("the value holds NaN or infinite values".to_owned(), layer.name.as_str()),
                };
                // One edit cannot help where both have to leave: float16 holds nothing that small either.
                let needs_both = in_float != layer.name && layer.dtype == "float16";
                let and_itself = if needs_both {
                    format!(" and \"{}\"", layer.name)
                } else {
                    String::new()
                };
                Finding {
                    id: self.id().to_owned(),
                    severity: Severity::Error,
                    layer: Some(layer.name.clone()),
                    cause,
                    evidence: format!("{} NaN, {} infinite elements", layer.n_nan, layer.n_infinite),
                    fix: format!("keep \"{in_float}\"{and_itself} in float: precision = \"float\" in the plan"),
                    effect_db: layer.effect.and_then(|effect| case.cost_db(effect.noise)),
                    action: (!needs_both).then(|| Action::SetPrecision {
                        value: in_float.to_owned(),
                        precision: "float".to_owned(),
                    }),
                    tried: None,
                }
            })
            .collect()
    }
}

/// The operator of a logarithm or quotient, the quantized value that it has no result of where that is 0, and the step of that;
/// `None` where no element became 0, as what overflows has another cause.
fn rounded_to_zero<'a>(case: &Case<'a>, layer: &Layer) -> Option<(&'a str, &'a str, f32)> {
    let node = case.producer(&layer.name)?;
    let place = match node.op_type.as_str() {
        "Log" | "Reciprocal" => 0,
        "Div" => 1,
        _ => return None,
    };
    let name = node.inputs.get(place)?;
    let step = case.step(name)?;
    let zeroed = figure_of(View::Entire.of_layer(case.row(name)?)?, "zero_fraction")?;
    (zeroed > 0.0).then_some((node.op_type.as_str(), name.as_str(), step))
}

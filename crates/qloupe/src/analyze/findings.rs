//! What is wrong, said in words, from the numbers of one analysis.

use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use crate::report::{Finding, Report, Severity};

/// One rule: what it finds in a report.
type Rule = fn(&Report, &Prepared, &QuantPlan) -> Vec<Finding>;

/// Every rule, in the order of their ids.
const ALL: &[Rule] = &[concat_member_lost, dead_output, not_finite];

/// The findings of a report, the most severe first.
pub(super) fn find(report: &Report, prepared: &Prepared, plan: &QuantPlan) -> Vec<Finding> {
    let mut found: Vec<Finding> = ALL.iter().flat_map(|rule| rule(report, prepared, plan)).collect();
    found.sort_by_key(|f| f.severity);
    found
}

/// A member of a Concat whose whole range lies below half a step of the output: it is rounded to nothing.
fn concat_member_lost(_: &Report, prepared: &Prepared, plan: &QuantPlan) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in prepared.model.graph.nodes.iter().filter(|n| n.is_onnx("Concat")) {
        let Some(output) = node.output(0) else { continue };
        let forms = plan.forms();
        let Some((step, _)) = forms.get(output).and_then(|f| f.params()?.as_per_tensor()) else {
            continue;
        };
        for name in node.inputs.iter().filter(|n| plan.value(n).is_some()) {
            let Some(range) = plan.value(name).and_then(|v| v.range) else {
                continue;
            };
            let largest = range.max.max(-range.min);
            if largest > 0.0 && largest < step {
                found.push(Finding {
                    id: "concat_member_lost".to_owned(),
                    severity: Severity::Error,
                    layer: Some(output.to_owned()),
                    cause: format!(
                        "\"{name}\" shares one scale with values that are orders of magnitude larger"
                    ),
                    evidence: format!(
                        "its largest value is {largest:.4}, one step of \"{output}\" is {step:.4}"
                    ),
                    fix: cut_advice(node.label(), &node.inputs),
                });
            }
        }
    }
    found
}

fn cut_advice(node: &str, members: &[String]) -> String {
    format!(
        "cut the head before \"{node}\" and join on the CPU: --crop-outputs {}",
        members.join(",")
    )
}

/// An output, or a slice of one, that is all zero although the float model's is not.
fn dead_output(report: &Report, _: &Prepared, _: &QuantPlan) -> Vec<Finding> {
    let mut found = Vec::new();
    for output in &report.outputs {
        let dead = |what: String| Finding {
            id: "dead_output".to_owned(),
            severity: Severity::Error,
            layer: Some(output.name.clone()),
            cause: format!("{what} is all zero, the float model's is not"),
            evidence: format!("every element, {} samples", report.samples.n),
            fix: "raise the value that it comes from to fp16 in the plan, or cut the head before it"
                .to_owned(),
        };
        if output.dead {
            found.push(dead(format!("output \"{}\"", output.name)));
        }
        for slice in output.slices.iter().filter(|s| s.dead && !output.dead) {
            let label = slice
                .label
                .as_ref()
                .map_or_else(String::new, |l| format!(" (from \"{l}\")"));
            let what = format!(
                "output \"{}\" [{}..{}] of axis {}{label}",
                output.name, slice.start, slice.end, slice.axis
            );
            found.push(dead(what));
        }
    }
    found
}

/// Values that are NaN or infinite under test.
fn not_finite(report: &Report, _: &Prepared, _: &QuantPlan) -> Vec<Finding> {
    let bad = report.layers.iter().filter(|l| l.n_nan + l.n_infinite > 0);
    bad.map(|layer| Finding {
        id: "not_finite".to_owned(),
        severity: Severity::Error,
        layer: Some(layer.name.clone()),
        cause: format!(
            "{} holds NaN or infinite values",
            if layer.dtype == "float16" {
                "float16"
            } else {
                "the value"
            }
        ),
        evidence: format!("{} NaN, {} infinite elements", layer.n_nan, layer.n_infinite),
        fix: "keep the value in float: precision = \"float\" in the plan".to_owned(),
    })
    .collect()
}

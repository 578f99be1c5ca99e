//! Relu and Clip beside a quantized value: removed, superfluous, or after half of the integers are lost.

use super::{Subject, finding, range_text, some_of};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let recovered: Vec<&str> = subject
        .reading
        .recovered
        .iter()
        .map(|r| r.value.as_str())
        .collect();
    if let Some(first) = recovered.first() {
        let cause = format!(
            "{} values have no integers below 0: the float model has a Relu (or a Clip to 6) there",
            recovered.len()
        );
        let evidence = some_of(&recovered);
        let fix = "nothing: the float twin clips them, too";
        found.push(finding(
            "activation_recovered",
            Severity::Info,
            first,
            cause,
            evidence,
            fix,
        ));
    }
    for node in &subject.graph.nodes {
        let is_relu = node.is_onnx("Relu");
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else {
            continue;
        };
        let Some(params) = subject.value(x).filter(|_| is_relu) else {
            continue;
        };
        let recovered = subject.reading.recovered.iter().any(|r| r.value == y);
        let (min, _) = params.real_range(0);
        if min >= 0.0 && !recovered {
            let cause = format!(
                "the Relu \"{}\" does what the range of its input does already",
                node.label()
            );
            let fix = "remove the Relu, or the pair before it";
            found.push(finding(
                "relu_after_range",
                Severity::Info,
                y,
                cause,
                range_text(params),
                fix,
            ));
        } else if min < 0.0 && subject.value(y).is_some() {
            let cause =
                format!("\"{x}\" is quantized before its Relu, which throws away the integers below 0");
            let fix = "quantize the output of the Relu only: Conv and Relu are one unit";
            found.push(finding(
                "quantized_before_relu",
                Severity::Warning,
                x,
                cause,
                range_text(params),
                fix,
            ));
        }
    }
    found
}

//! One value quantized more than once: with several scales, in a chain, or the same pair again.

use std::collections::BTreeMap;

use super::{Subject, finding, some_of};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut readings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in subject.graph.nodes.iter().filter(|n| n.is_onnx("Identity")) {
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else {
            continue;
        };
        let Some(params) = subject.value(y) else { continue };
        match subject.value(x) {
            Some(before) if before != params => {
                let cause =
                    format!("\"{x}\" is quantized, de-quantized and quantized again with another scale");
                let evidence = format!("scale {:e}, then {:e}", before.scale()[0], params.scale()[0]);
                let fix = "keep the second pair only: each rounds once more";
                found.push(finding("requantized", Severity::Warning, x, cause, evidence, fix));
            }
            Some(_) => {}
            None => readings.entry(x).or_default().push(y),
        }
    }
    for (value, readings) in readings.into_iter().filter(|(_, readings)| readings.len() > 1) {
        let scales: Vec<String> = readings
            .iter()
            .filter_map(|name| Some(format!("{:e}", subject.value(name)?.scale()[0])))
            .collect();
        let cause = format!(
            "\"{value}\" is quantized with {} different scales",
            readings.len()
        );
        let evidence = format!("scales {}, read as {}", scales.join(", "), some_of(&readings));
        let fix = "one pair for all readers, unless a reader needs a range of its own";
        found.push(finding(
            "two_scales",
            Severity::Warning,
            value,
            cause,
            evidence,
            fix,
        ));
    }
    found.extend(duplicates(subject));
    found
}

/// Several QuantizeLinear that make the same integers of the same value.
fn duplicates(subject: &Subject<'_>) -> Option<Finding> {
    let mut n_pairs: BTreeMap<&str, usize> = BTreeMap::new();
    let nodes = subject.reading.lowered.graph.nodes.iter();
    for node in nodes.filter(|n| n.is_onnx("QuantizeLinear")) {
        if let Some(value) = node
            .output(0)
            .and_then(|name| subject.reading.stands_for.get(name))
        {
            *n_pairs.entry(value).or_default() += 1;
        }
    }
    let twice: Vec<&str> = n_pairs
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(&value, _)| value)
        .collect();
    let first = twice.first()?;
    let cause = format!(
        "{} values have the same QuantizeLinear more than once",
        twice.len()
    );
    let fix = "share one pair: nothing is lost, but a runtime may convert twice";
    Some(finding(
        "duplicate_pair",
        Severity::Info,
        first,
        cause,
        some_of(&twice),
        fix,
    ))
}

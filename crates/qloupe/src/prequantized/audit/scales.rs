//! Scales that are no scales, that no data has, or that are stored too coarsely.

use std::collections::BTreeSet;

use qloupe_tensor::DType;

use super::{Subject, finding, some_of};
use crate::report::{Finding, Severity};

/// Below it, products of two scales leave the normal f32 range.
const TINY: f64 = 1e-20;

/// Above it, one step of an 8-bit value is larger than what networks compute with.
const HUGE: f64 = 1e6;

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let lowered = &subject.reading.lowered.graph;
    let constants = lowered.constants();
    let mut found = Vec::new();
    let (mut negative, mut negative_scale): (Vec<&str>, _) = (Vec::new(), None);
    let mut coarse: Vec<&str> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let quantizing = |op: &str| op == "QuantizeLinear" || op == "DequantizeLinear";
    for node in lowered.nodes.iter().filter(|n| quantizing(&n.op_type)) {
        let Some(name) = node.input(1).filter(|name| seen.insert(name)) else {
            continue;
        };
        let Some(Ok(tensor)) = constants.get(name).map(|stored| stored.tensor()) else {
            continue;
        };
        let of = format!("node \"{}\" ({})", node.label(), node.op_type);
        let values = tensor.to_f64_vec().unwrap_or_default();
        let is_bias = node.input(0).and_then(|q| constants.get(q)).map(|q| q.dtype()) == Some(DType::Int32);
        let find = |wrong: fn(f64) -> bool| values.iter().copied().enumerate().find(|(_, s)| wrong(*s));
        if let Some((_, scale)) = find(|s| s.is_finite() && s < 0.0) {
            negative.push(name);
            negative_scale.get_or_insert(scale);
        } else if let Some((idx, scale)) = find(|s| !s.is_finite() || s == 0.0) {
            let cause = format!("scale {idx} of \"{name}\" is {scale}, expected a positive finite number");
            let fix = "quantize this tensor again: nothing that is computed from it has a meaning";
            found.push(finding("invalid_scale", Severity::Error, name, cause, of, fix));
        } else if let Some((idx, scale)) =
            find(|s| s > HUGE).or_else(|| find(|s| s < TINY).filter(|_| !is_bias))
        {
            let cause = format!("scale {idx} of \"{name}\" is {scale:e}: no range of real data has it");
            let fix = "calibrate this tensor again: it was dead, or held an outlier that is no number of the network";
            found.push(finding("absurd_scale", Severity::Warning, name, cause, of, fix));
        }
        if tensor.dtype() != DType::Float32 {
            coarse.push(name);
        }
    }
    if let (Some(first), Some(scale)) = (negative.first(), negative_scale) {
        let cause = format!(
            "{} scales hold negative numbers, such as {scale:e}",
            negative.len()
        );
        let fix =
            "use positive scales: ONNX Runtime multiplies by them, integer kernels and other tools do not";
        found.push(finding(
            "negative_scale",
            Severity::Warning,
            first,
            cause,
            some_of(&negative),
            fix,
        ));
    }
    if let Some(first) = coarse.first() {
        let cause = format!("{} scales are not float32", coarse.len());
        let fix = "store scales as float32: a float16 has 11 bits, and a plan holds float32 only";
        found.push(finding(
            "scale_type",
            Severity::Warning,
            first,
            cause,
            some_of(&coarse),
            fix,
        ));
    }
    found
}

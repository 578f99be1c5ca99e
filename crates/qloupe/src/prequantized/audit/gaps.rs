//! Values that stay in float between quantized neighbours: the unit computes in float, or is cast back and forth.

use qloupe_ir::Node;

use super::{Subject, finding};
use crate::report::{Finding, Severity};
use crate::targets::Support;
use crate::units::is_product;

/// Operators of several values that a runtime computes in integers only when all are.
const JOINING: &[&str] = &["Add", "Concat", "Mul"];

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    // Where no value has a fixed scale, only weights are quantized, or values as they run: that is no gap.
    if !subject
        .reading
        .values
        .keys()
        .any(|name| subject.value(name).is_some())
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    for node in &subject.graph.nodes {
        if is_product(node) {
            found.extend(product(subject, node));
        } else if JOINING.iter().any(|op| node.is_onnx(op)) {
            found.extend(joining(subject, node));
        }
    }
    found
}

fn product(subject: &Subject<'_>, node: &Node) -> Option<Finding> {
    let (x, w, y) = (node.input(0)?, node.input(1)?, node.output(0)?);
    let evidence = format!("node \"{}\" ({})", node.label(), node.op_type);
    let constant = subject.is_constant(w);
    let weight = if constant {
        subject.weights.contains_key(w)
    } else {
        subject.is_quantized(w)
    };
    let gap = |name: &str, what: &str, fix| {
        let cause = format!("{what} \"{name}\" is float, the other operand is quantized");
        Some(finding(
            "float_gap",
            Severity::Warning,
            name,
            cause,
            evidence.clone(),
            fix,
        ))
    };
    match (subject.is_quantized(x), weight) {
        (false, true) if !subject.is_constant(x) => gap(
            x,
            "the input",
            "quantize the input, too: the product computes in float",
        ),
        (true, false) => {
            let what = if constant { "the weight" } else { "the input" };
            gap(w, what, "quantize it, too: the product computes in float")
        }
        (true, true) => {
            let last = end_of_unit(subject, y);
            let leaves = !subject.is_quantized(last) && !subject.is_output(last);
            let mut readers = subject.consumers(last).peekable();
            let between = readers.peek().is_some()
                && readers.all(|reader| {
                    let support = subject.target.support(&reader.op_type, &reader.domain);
                    let integer = matches!(support, Support::Int8(_) | Support::Int8Exact);
                    // An Identity is a pair itself.
                    integer
                        && !reader.is_onnx("Identity")
                        && reader.outputs.iter().any(|name| subject.value(name).is_some())
                });
            let cause = format!("\"{last}\" is float between quantized neighbours");
            let fix = "put a Q/DQ pair behind it: the units on both sides convert it else";
            (leaves && between).then(|| finding("float_gap", Severity::Warning, last, cause, evidence, fix))
        }
        _ => None,
    }
}

/// The value behind the bias and the activation that follow a product.
fn end_of_unit<'a>(subject: &Subject<'a>, value: &'a str) -> &'a str {
    let mut at = value;
    while !subject.is_quantized(at) && !subject.is_output(at) {
        let mut readers = subject.consumers(at);
        let (Some(next), None) = (readers.next(), readers.next()) else {
            break;
        };
        let adds_bias = next.is_onnx("Add") && next.inputs.iter().any(|name| subject.is_constant(name));
        match next.output(0) {
            Some(output) if adds_bias || next.is_onnx("Relu") || next.is_onnx("Clip") => at = output,
            _ => break,
        }
    }
    at
}

fn joining(subject: &Subject<'_>, node: &Node) -> Option<Finding> {
    let computed = || node.inputs.iter().filter(|name| !subject.is_constant(name));
    let float = computed().find(|name| !subject.is_quantized(name))?;
    let quantized = computed().find(|name| subject.value(name).is_some())?;
    // Behind a product that computes as it runs, a float sum is what it should be.
    let made_float = subject.producer(float).is_some_and(|producer| {
        producer
            .inputs
            .iter()
            .any(|name| subject.is_quantized(name) && subject.value(name).is_none())
    });
    let result = node.output(0).is_some_and(|name| subject.value(name).is_some());
    let cause = format!("\"{float}\" is float, \"{quantized}\" beside it is quantized");
    let evidence = format!("node \"{}\" ({})", node.label(), node.op_type);
    let fix = "quantize both: the node computes in float, and converts one of them";
    (!made_float && result).then(|| finding("float_gap", Severity::Warning, float, cause, evidence, fix))
}

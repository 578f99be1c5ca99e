//! Scales along another axis than that of the output channels.

use qloupe_ir::Node;
use qloupe_tensor::Granularity;

use super::{Subject, finding};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in &subject.graph.nodes {
        let Some((name, params)) = node.input(1).and_then(|name| Some((name, subject.weight(name)?))) else {
            continue;
        };
        let rank = subject
            .graph
            .initializer(name)
            .map_or(0, |stored| stored.shape().len());
        let (Granularity::PerChannel { axis }, Some(expected)) =
            (params.granularity(), output_axis(node, rank))
        else {
            continue;
        };
        if axis != expected {
            let cause = format!(
                "the scales of weight \"{name}\" lie along axis {axis}, the output channels of {} along axis {expected}",
                node.op_type
            );
            let evidence = format!("{} scales, node \"{}\"", params.scale().len(), node.label());
            let fix =
                "quantize the weight along its output channels: other scales cannot be taken out of the sum";
            found.push(finding("wrong_axis", Severity::Error, name, cause, evidence, fix));
        }
    }
    found
}

/// The axis of the output channels in the weight of a product.
fn output_axis(node: &Node, rank: usize) -> Option<usize> {
    if node.is_onnx("Conv") {
        Some(0)
    } else if node.is_onnx("ConvTranspose") {
        (node.int("group").unwrap_or(1) == 1).then_some(1)
    } else if node.is_onnx("Gemm") {
        Some(usize::from(node.int("transB").unwrap_or(0) == 0))
    } else if node.is_onnx("MatMul") {
        rank.checked_sub(1)
    } else {
        None
    }
}

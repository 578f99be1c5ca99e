//! Biases: int32 with the scale of the sums that they are added to.

use super::{Subject, finding, some_of};
use crate::report::{Finding, Severity};
use crate::units::is_product;

/// How far a scale may be from the product of the scales, relative to it.
const TOLERANCE: f32 = 1e-3;

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut float: Vec<&str> = Vec::new();
    for node in subject.graph.nodes.iter().filter(|n| is_product(n)) {
        let (Some(x), Some(w), Some(b)) = (node.input(0), node.input(1), node.input(2)) else {
            continue;
        };
        let input = subject.value(x).and_then(|params| params.as_per_tensor());
        let (Some((input_scale, _)), Some(weight)) = (input, subject.weight(w)) else {
            continue;
        };
        let Some(bias) = subject.weight(b) else {
            if subject.is_constant(b) {
                float.push(b);
            }
            continue;
        };
        let at = |scales: &[f32], channel: usize| scales[if scales.len() == 1 { 0 } else { channel }];
        let n = bias.scale().len().max(weight.scale().len());
        let fits = |len: usize| len == 1 || len == n;
        if !fits(bias.scale().len()) || !fits(weight.scale().len()) {
            let cause = format!("the bias \"{b}\" has another number of scales than the weight \"{w}\"");
            let evidence = format!("{} and {} scales", bias.scale().len(), weight.scale().len());
            let fix = "one scale for each output channel in both, or one for the tensor in both";
            found.push(finding("bias_scale", Severity::Warning, b, cause, evidence, fix));
            continue;
        }
        let wrong = (0..n).find(|&channel| {
            let expected = input_scale * at(weight.scale(), channel);
            (at(bias.scale(), channel) - expected).abs() > TOLERANCE * expected
        });
        if let Some(channel) = wrong {
            let cause = format!("the scale of bias \"{b}\" is not that of the sums it is added to");
            let evidence = format!(
                "channel {channel}: {:e}, expected {:e} = {input_scale:e} * {:e}",
                at(bias.scale(), channel),
                input_scale * at(weight.scale(), channel),
                at(weight.scale(), channel)
            );
            let fix = "store the bias with the scale input_scale * weight_scale: integer kernels add it as if it had it";
            found.push(finding("bias_scale", Severity::Error, b, cause, evidence, fix));
        }
    }
    if let Some(first) = float.first() {
        let cause = format!(
            "{} biases are float between a quantized input and a quantized weight",
            float.len()
        );
        let fix = "store them as int32 with the scale input_scale * weight_scale: a runtime may compute in float else";
        found.push(finding(
            "float_bias",
            Severity::Warning,
            first,
            cause,
            some_of(&float),
            fix,
        ));
    }
    found
}

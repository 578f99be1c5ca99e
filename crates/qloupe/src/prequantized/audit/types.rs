//! Integer types and zero points that the target has no kernels for.

use std::collections::BTreeMap;

use qloupe_tensor::{DType, Granularity};

use super::{Subject, finding, some_of};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = activations(subject);
    found.extend(weights(subject));
    found
}

fn activations(subject: &Subject<'_>) -> Vec<Finding> {
    let mut by_type: BTreeMap<DType, Vec<&str>> = BTreeMap::new();
    let (mut shifted, mut channels): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let scheme = subject.target.activation;
    for name in subject.reading.values.keys() {
        let Some(params) = subject.value(name) else {
            continue;
        };
        by_type.entry(params.dtype()).or_default().push(name);
        let middle = if params.quant_range().0 < 0 {
            0
        } else {
            1 << (params.dtype().size_bits() - 1)
        };
        if scheme.is_some_and(|s| s.symmetric) && params.zero_point().iter().any(|&z| z != middle) {
            shifted.push(name);
        }
        if params.as_per_tensor().is_none() {
            channels.push(name);
        }
    }
    let mut found = Vec::new();
    let id = subject.target.id;
    if let Some(first) = channels.first() {
        let cause = format!(
            "{} values have a scale for each channel, {id} takes one for the value",
            channels.len()
        );
        let fix = "one scale for each activation: no sum over channels can take several out";
        found.push(finding(
            "per_channel_activation",
            Severity::Warning,
            first,
            cause,
            some_of(&channels),
            fix,
        ));
    }
    if let Some(first) = shifted.first() {
        let cause = format!(
            "{} values have a zero point, {id} takes symmetric ones",
            shifted.len()
        );
        let fix = "quantize activations symmetrically for this target";
        found.push(finding(
            "activation_zero_point",
            Severity::Warning,
            first,
            cause,
            some_of(&shifted),
            fix,
        ));
    }
    let bits = |dtype: DType| dtype.size_bits();
    let wide = by_type
        .iter()
        .filter(|(dtype, _)| scheme.is_some_and(|s| bits(s.dtype) != bits(**dtype)));
    for (dtype, names) in wide {
        let cause = format!(
            "{} values are {dtype}, {id} computes with {}",
            names.len(),
            scheme_name(subject)
        );
        let fix = "they run between DequantizeLinear and QuantizeLinear in float: accurate, but not fast";
        found.push(finding(
            "activation_type",
            Severity::Info,
            names[0],
            cause,
            some_of(names),
            fix,
        ));
    }
    let eight: Vec<_> = by_type.iter().filter(|(dtype, _)| bits(**dtype) == 8).collect();
    if let [(_, a), (_, b)] = eight.as_slice() {
        let cause = format!("int8 and uint8 values are mixed: {} and {}", a.len(), b.len());
        let rarer = if a.len() < b.len() { a } else { b };
        let fix = "one type for all activations: kernels of two types do not fuse";
        found.push(finding(
            "mixed_types",
            Severity::Warning,
            rarer[0],
            cause,
            some_of(rarer),
            fix,
        ));
    }
    found
}

fn scheme_name(subject: &Subject<'_>) -> &'static str {
    subject
        .target
        .activation
        .map_or("float", |scheme| scheme.dtype.name())
}

fn weights(subject: &Subject<'_>) -> Vec<Finding> {
    let (mut other, mut shifted): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut first_type = None;
    for weight in &subject.reading.weights {
        let Ok(params) = &weight.params else { continue };
        if params.dtype() == DType::Int32 || !reads_as_weight(subject, &weight.name) {
            continue;
        }
        if params.dtype() != subject.target.weight_dtype {
            first_type.get_or_insert(params.dtype());
            other.push(&weight.name);
        }
        let blocks = matches!(params.granularity(), Granularity::PerBlock { .. });
        let shifts = params.zero_point().iter().any(|&z| z != 0);
        if !blocks && shifts && subject.target.symmetric_weights {
            shifted.push(&weight.name);
        }
    }
    let id = subject.target.id;
    let mut found = Vec::new();
    if let (Some(name), Some(dtype)) = (other.first(), first_type) {
        let cause = format!(
            "{} weights are {dtype}, {id} takes {}",
            other.len(),
            subject.target.weight_dtype
        );
        let fix = "symmetric weights of that type lose no accuracy and reach the fast kernels";
        found.push(finding(
            "weight_type",
            Severity::Info,
            name,
            cause,
            some_of(&other),
            fix,
        ));
    }
    if let Some(name) = shifted.first() {
        let cause = format!("{} weights have a zero point other than 0", shifted.len());
        let fix = "symmetric weights: a zero point costs a second sum over the input";
        found.push(finding(
            "weight_zero_point",
            Severity::Info,
            name,
            cause,
            some_of(&shifted),
            fix,
        ));
    }
    found
}

/// True for a constant that a product multiplies with.
fn reads_as_weight(subject: &Subject<'_>, name: &str) -> bool {
    subject
        .consumers(name)
        .any(|node| crate::units::is_product(node) && node.input(1) == Some(name))
}

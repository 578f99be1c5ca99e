//! The quantization of a model in a few numbers: by what scheme, and how much of it in which type.

use std::collections::BTreeMap;

use qloupe_ir::Model;
use qloupe_tensor::Granularity;

use super::read::{Quantization, Reading};

/// How a model says that it is quantized.
const SCHEMES: &[(&str, &[&str])] = &[
    ("QDQ", &["QuantizeLinear", "DequantizeLinear"]),
    ("QOperator", &["QLinear*", "QGemm", "NhwcMaxPool"]),
    (
        "dynamic",
        &[
            "DynamicQuantizeLinear",
            "DynamicQuantizeLSTM",
            "DynamicQuantizeMatMul",
        ],
    ),
    ("weights in blocks", &["MatMulNBits"]),
];

/// The quantization of a model in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `QDQ`, `QOperator`, `dynamic`, `weights only`; several where a model mixes them.
    pub schemes: Vec<&'static str>,
    /// Quantized values by type; `uint8, dynamic` for those with the range of the run.
    pub values: BTreeMap<String, usize>,
    /// Quantized constants by type and granularity.
    pub weights: BTreeMap<String, usize>,
    /// Products and sums that compute on quantized operands, by the type of their result; `float` for the others.
    pub units: BTreeMap<String, usize>,
    /// Nodes on integers that have no float form.
    pub n_kept: usize,
}

pub(super) fn summarize(model: &Model, reading: &Reading) -> Summary {
    let mut summary = Summary {
        schemes: schemes(model, reading),
        n_kept: reading.kept.len(),
        ..Summary::default()
    };
    for quantization in reading.values.values() {
        *summary.values.entry(type_of(quantization)).or_default() += 1;
    }
    for weight in &reading.weights {
        let name = match &weight.params {
            Ok(params) => {
                let granularity = match params.granularity() {
                    Granularity::PerTensor => "per tensor",
                    Granularity::PerChannel { .. } => "per channel",
                    Granularity::PerBlock { .. } => "in blocks",
                };
                format!("{} {granularity}", params.dtype())
            }
            Err(_) => "other".to_owned(),
        };
        *summary.weights.entry(name).or_default() += 1;
    }
    for node in reading
        .twin
        .graph
        .nodes
        .iter()
        .filter(|n| crate::units::is_product(n))
    {
        let dynamic = node
            .inputs
            .iter()
            .find_map(|name| match reading.values.get(name)? {
                Quantization::Dynamic => Some("uint8, dynamic".to_owned()),
                _ => None,
            });
        let fixed = |name: &String| reading.values.get(name).and_then(Quantization::params);
        let weight = node
            .input(1)
            .and_then(|name| reading.weights.iter().find(|w| w.name == name));
        let input = node.inputs.first().and_then(fixed);
        let weight = weight.and_then(|w| w.params.as_ref().ok());
        let precision = match (dynamic, input, weight) {
            (Some(dynamic), _, _) => dynamic,
            (None, Some(input), Some(weight)) => format!("{} x {}", input.dtype(), weight.dtype()),
            (None, Some(input), None) if node.inputs.get(1).and_then(fixed).is_some() => {
                input.dtype().to_string()
            }
            (None, None, Some(weight)) => format!("float x {}", weight.dtype()),
            _ => "float".to_owned(),
        };
        *summary.units.entry(precision).or_default() += 1;
    }
    summary
}

fn type_of(quantization: &Quantization) -> String {
    match quantization {
        Quantization::Fixed(params) | Quantization::Shared(_, params) => params.dtype().to_string(),
        Quantization::Dynamic => "uint8, dynamic".to_owned(),
    }
}

fn schemes(model: &Model, reading: &Reading) -> Vec<&'static str> {
    let has = |pattern: &&str| {
        model
            .graph
            .nodes
            .iter()
            .any(|node| match pattern.strip_suffix('*') {
                Some(start) => node.op_type.starts_with(start),
                None => node.op_type == **pattern,
            })
    };
    let found = SCHEMES.iter().filter(|(_, operators)| operators.iter().any(has));
    let mut found: Vec<&str> = found.map(|(name, _)| *name).collect();
    // An operator on integers needs pairs at its border: they do not make another scheme.
    if found.len() > 1 && found.contains(&"QOperator") {
        found.retain(|name| *name != "QDQ");
    }
    if found == ["QDQ"] && reading.values.is_empty() {
        found = vec!["weights only"];
    }
    found
}

impl Summary {
    /// `12 int8 per channel, 3 int8 per tensor`.
    pub fn counts(counts: &BTreeMap<String, usize>) -> String {
        let parts: Vec<String> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        parts.join(", ")
    }
}

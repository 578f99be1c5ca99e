//! A Relu, or a Clip to 6, that a quantizer removed because the range of the integers does the same.

use std::collections::BTreeMap;

use qloupe_ir::{AttributeValue, Model, Node};
use qloupe_tensor::Tensor;

use super::names::Names;
use super::read::Quantization;

/// Operators whose Relu or Clip a quantizer removes when the range of the integers does the same.
const CLIPPED: &[&str] = &["Add", "Conv", "ConvTranspose", "Gemm", "MatMul"];

/// The upper bound of a Relu6.
const SIX: f64 = 6.0;

/// How far the top of a range may be from 6, relative to it, where a Relu6 was calibrated to its bound.
const SIX_TOLERANCE: f64 = 1e-5;

/// The first version whose Clip takes its bounds as inputs.
const CLIP_INPUTS: i64 = 11;

/// A Relu or Clip that the range of a value stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recovered {
    /// The value.
    pub(super) value: String,
    /// `Relu` or `Clip`.
    pub(super) op_type: &'static str,
}

/// Puts the Relu or Clip back whose work the range of the integers does.
pub(super) fn recover_activations(
    twin: &mut Model,
    values: &BTreeMap<String, Quantization>,
    names: &mut Names,
) -> Vec<Recovered> {
    let clip_inputs = twin.opset() >= CLIP_INPUTS;
    let mut recovered = Vec::new();
    let mut nodes = Vec::with_capacity(twin.graph.nodes.len());
    let mut bounds: Vec<(String, Tensor)> = Vec::new();
    for mut node in std::mem::take(&mut twin.graph.nodes) {
        let clipped = CLIPPED.iter().any(|op| node.is_onnx(op));
        let value = node.output(0).unwrap_or_default().to_owned();
        let params = match values.get(&value) {
            Some(Quantization::Fixed(params)) if clipped && params.as_per_tensor().is_some() => params,
            _ => {
                nodes.push(node);
                continue;
            }
        };
        let (min, max) = params.real_range(0);
        if min < 0.0 {
            nodes.push(node);
            continue;
        }
        let before = names.take(&format!("{value}_unclipped"));
        node.outputs[0].clone_from(&before);
        let label = node.label().to_owned();
        let is_six = (max - SIX).abs() <= SIX * SIX_TOLERANCE;
        let activation = if !is_six {
            Node::new("Relu", &label, &[&before], &[&value])
        } else if clip_inputs {
            let (low, high) = (
                names.take(&format!("{value}_min")),
                names.take(&format!("{value}_max")),
            );
            bounds.push((low.clone(), Tensor::scalar(0_f32)));
            bounds.push((high.clone(), Tensor::scalar(SIX as f32)));
            Node::new("Clip", &label, &[&before, &low, &high], &[&value])
        } else {
            Node::new("Clip", &label, &[&before], &[&value])
                .with_attribute("min", AttributeValue::Float(0.0))
                .with_attribute("max", AttributeValue::Float(SIX as f32))
        };
        recovered.push(Recovered {
            value,
            op_type: if is_six { "Clip" } else { "Relu" },
        });
        nodes.extend([node, activation]);
    }
    twin.graph.nodes = nodes;
    for (name, tensor) in bounds {
        twin.graph.set_initializer(&name, tensor);
    }
    recovered
}

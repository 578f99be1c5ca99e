//! Stored tensors that are hard to quantize or cannot be stored in float16.

use std::collections::BTreeMap;

use qloupe_ir::{Constant, Graph, Node};
use qloupe_tensor::round_to_fp16_in_place;

/// Channels whose largest weights differ by more than this lose precision under one scale.
pub const MAX_SPREAD: f32 = 64.0;

/// A channel whose largest weight is below this part of the tensor's largest does nothing.
pub const DEAD_CHANNEL: f32 = 1e-6;

/// A stored tensor and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightHazard {
    /// The tensor.
    pub tensor: String,
    /// The first node that uses it.
    pub node: String,
    /// What is wrong.
    pub kind: HazardKind,
}

/// What is wrong with a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HazardKind {
    /// NaN or infinite elements.
    NotFinite {
        /// How many.
        count: usize,
        /// Of how many.
        len: usize,
    },
    /// Finite elements beyond 65504.
    BeyondFp16 {
        /// How many.
        count: usize,
        /// Of how many.
        len: usize,
        /// The largest magnitude.
        max_abs: f32,
    },
    /// Elements that are not 0 and become 0 in float16, where they matter: most of the tensor.
    VanishesInFp16 {
        /// How many.
        count: usize,
        /// Of how many.
        len: usize,
    },
    /// The largest weights of the channels differ by more than [`MAX_SPREAD`].
    Spread {
        /// Largest over smallest.
        ratio: f32,
    },
    /// Channels of zeros, or of weights below [`DEAD_CHANNEL`] times the largest.
    DeadChannels {
        /// How many.
        count: usize,
        /// Of how many.
        n_channels: usize,
    },
}

impl HazardKind {
    /// The id in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not_finite",
            Self::BeyondFp16 { .. } => "beyond_fp16",
            Self::VanishesInFp16 { .. } => "vanishes_in_fp16",
            Self::Spread { .. } => "channel_spread",
            Self::DeadChannels { .. } => "dead_channels",
        }
    }

    /// One line for people.
    pub fn describe(self) -> String {
        match self {
            Self::NotFinite { count, len } => format!("{count} of {len} elements are NaN or infinite"),
            Self::BeyondFp16 { count, len, max_abs } => {
                format!("{count} of {len} elements beyond float16, up to {max_abs:.3e}")
            }
            Self::VanishesInFp16 { count, len } => format!("{count} of {len} elements become 0 in float16"),
            Self::Spread { ratio } => format!("channel ranges differ {ratio:.0}x"),
            Self::DeadChannels { count, n_channels } => {
                format!("{count} of {n_channels} channels are zero or nearly")
            }
        }
    }
}

/// The hazards of every float32 tensor of a graph, in the order of the nodes that use them.
pub(super) fn weight_hazards(graph: &Graph) -> Vec<WeightHazard> {
    let constants = graph.constants();
    let mut users: BTreeMap<&str, (&Node, usize)> = BTreeMap::new();
    let mut order = Vec::new();
    for node in &graph.nodes {
        for (idx, name) in node.inputs.iter().enumerate() {
            if constants.contains_key(name.as_str()) && !users.contains_key(name.as_str()) {
                users.insert(name, (node, idx));
                order.push(name.as_str());
            }
        }
    }
    let mut hazards = Vec::new();
    for name in order {
        let (node, input_idx) = users[name];
        let kinds = tensor_hazards(constants[name], node, input_idx);
        hazards.extend(kinds.into_iter().map(|kind| WeightHazard {
            tensor: name.to_owned(),
            node: node.label().to_owned(),
            kind,
        }));
    }
    hazards
}

fn tensor_hazards(constant: &Constant, node: &Node, input_idx: usize) -> Vec<HazardKind> {
    let Ok(tensor) = constant.tensor() else {
        return Vec::new();
    };
    let Some(values) = tensor.as_slice::<f32>() else {
        return Vec::new();
    };
    let len = values.len();
    let mut kinds = Vec::new();
    let count = values.iter().filter(|v| !v.is_finite()).count();
    // A single infinity is a bound, not a weight.
    if count > 0 && (len > 1 || values[0].is_nan()) {
        kinds.push(HazardKind::NotFinite { count, len });
    }
    let is_bound = node.is_onnx("Clip") && input_idx > 0;
    let losses = round_to_fp16_in_place(&mut values.to_vec());
    if losses.n_overflow > 0 && !is_bound {
        let finite = values.iter().filter(|v| v.is_finite());
        let max_abs = finite.fold(0.0_f32, |max, v| max.max(v.abs()));
        kinds.push(HazardKind::BeyondFp16 {
            count: losses.n_overflow,
            len,
            max_abs,
        });
    }
    if losses.n_underflow * 2 > len {
        kinds.push(HazardKind::VanishesInFp16 {
            count: losses.n_underflow,
            len,
        });
    }
    if let Some(axis) = channel_axis(node, input_idx, tensor.rank()) {
        kinds.extend(channel_hazards(values, tensor.shape(), axis));
    }
    kinds
}

/// The axis of the output channels where the tensor is a weight.
fn channel_axis(node: &Node, input_idx: usize, rank: usize) -> Option<usize> {
    match node.op_type.as_str() {
        _ if input_idx != 1 || rank < 2 || !node.is_onnx(&node.op_type) => None,
        "Conv" => Some(0),
        "ConvTranspose" if node.int("group").unwrap_or(1) == 1 => Some(1),
        "Gemm" => Some(if node.int("transB").unwrap_or(0) == 0 {
            1
        } else {
            0
        }),
        "MatMul" => Some(rank - 1),
        _ => None,
    }
}

fn channel_hazards(values: &[f32], shape: &[usize], axis: usize) -> Vec<HazardKind> {
    let n_channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    if n_channels == 0 || inner == 0 {
        return Vec::new();
    }
    let mut max_abs = vec![0.0_f32; n_channels];
    for (run, chunk) in values.chunks(inner).enumerate() {
        let max = &mut max_abs[run % n_channels];
        *max = chunk
            .iter()
            .filter(|v| v.is_finite())
            .fold(*max, |max, v| max.max(v.abs()));
    }
    let largest = max_abs.iter().fold(0.0_f32, |a, &b| a.max(b));
    let is_alive = |m: &&f32| **m > largest * DEAD_CHANNEL;
    let count = n_channels - max_abs.iter().filter(is_alive).count();
    let smallest = max_abs
        .iter()
        .filter(is_alive)
        .fold(f32::INFINITY, |a, &b| a.min(b));
    let ratio = largest / smallest;
    let mut kinds = Vec::new();
    if ratio.is_finite() && ratio > MAX_SPREAD {
        kinds.push(HazardKind::Spread { ratio });
    }
    if count > 0 {
        kinds.push(HazardKind::DeadChannels { count, n_channels });
    }
    kinds
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::Tensor;

    use super::*;

    #[test]
    fn each_hazard_is_named() {
        struct Case {
            op: &'static str,
            shape: &'static [usize],
            values: Vec<f32>,
            expected: &'static [&'static str],
        }
        let cases = [
            Case {
                op: "Conv",
                shape: &[2, 1, 1, 2],
                values: vec![1.0, -2.0, 0.5, 0.1],
                expected: &[],
            },
            Case {
                op: "Conv",
                shape: &[3, 1, 1, 2],
                values: vec![100.0, 0.0, 0.0, 0.0, 1.0, 0.5],
                expected: &["channel ranges differ 100x", "1 of 3 channels are zero or nearly"],
            },
            Case {
                op: "MatMul",
                shape: &[2, 2],
                values: vec![1e6, 1.0, f32::NAN, 1.0],
                expected: &[
                    "1 of 4 elements are NaN or infinite",
                    "1 of 4 elements beyond float16, up to 1.000e6",
                    "1 of 2 channels are zero or nearly",
                ],
            },
            Case {
                op: "Add",
                shape: &[1],
                values: vec![1e-12],
                expected: &["1 of 1 elements become 0 in float16"],
            },
            Case {
                op: "Clip",
                shape: &[],
                values: vec![3.4e38],
                expected: &[],
            },
        ];
        for Case {
            op,
            shape,
            values,
            expected,
        } in cases
        {
            let mut graph = Graph {
                nodes: vec![Node::new(op, "n", &["x", "w"], &["y"])],
                ..Graph::default()
            };
            graph.set_initializer("w", Tensor::new(shape, values).unwrap());
            let got: Vec<String> = weight_hazards(&graph).iter().map(|h| h.kind.describe()).collect();
            assert_eq!(got, expected, "{op}");
        }
    }
}

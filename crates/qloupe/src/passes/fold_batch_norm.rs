//! Folds per-channel affine nodes into the convolution before them.
//!
//! BatchNormalization, and Mul, Div, Add, Sub with a constant of one element or one per channel (what exporters leave
//! of a batch norm or of a separate bias) become part of the weight and bias: `w' = w * s[c]`, `b' = b * s[c] + t[c]`.

use std::collections::BTreeSet;

use qloupe_exec::Program;
use qloupe_ir::{Graph, Node, Topology};
use qloupe_tensor::{Tensor, TensorError};

use super::Fused;

/// The name of the pass in plans and reports.
pub const PASS: &str = "fold_batch_norm";

/// Folds; `program` is the prepared form of the same graph, for its constants.
///
/// # Errors
/// A weight whose elements do not fit its shape.
pub fn fold_batch_norm(program: &Program, topology: &Topology) -> Result<(Graph, Vec<Fused>), TensorError> {
    let mut graph = program.graph().clone();
    let mut fused = Vec::new();
    let mut removed: BTreeSet<usize> = BTreeSet::new();
    for idx in 0..graph.nodes.len() {
        let Some(conv) = Convolution::new(program, topology, idx) else {
            continue;
        };
        let chain = affine_chain(program, topology, idx, conv.n_channels);
        let Some(last) = chain
            .last()
            .and_then(|(node_idx, _)| program.graph().nodes[*node_idx].output(0))
        else {
            continue;
        };
        let last = last.to_owned();
        let mut affine = Affine::identity(conv.n_channels);
        for (_, step) in &chain {
            affine = affine.then(step);
        }
        let (weight, bias) = conv.folded(&affine)?;
        let node = &mut graph.nodes[idx];
        let shared = topology.consumers(&conv.weight_name).len() > 1;
        let weight_name = if shared {
            format!("{last}_weight")
        } else {
            conv.weight_name.clone()
        };
        let bias_name = format!("{last}_bias");
        node.inputs.truncate(1);
        node.inputs.extend([weight_name.clone(), bias_name.clone()]);
        for name in std::iter::once(idx)
            .chain(chain.iter().map(|(i, _)| *i))
            .filter_map(|i| program.graph().nodes[i].output(0))
        {
            if name != last {
                fused.push(Fused {
                    value: name.to_owned(),
                    into: last.clone(),
                    pass: PASS,
                });
            }
        }
        node.outputs[0] = last;
        removed.extend(chain.iter().map(|(i, _)| *i));
        if !shared {
            // A weight may be the output of a Constant node.
            removed.extend(topology.producer(&conv.weight_name));
        }
        graph.set_initializer(&weight_name, weight);
        graph.set_initializer(&bias_name, bias);
    }
    let mut idx = 0;
    graph.nodes.retain(|_| {
        idx += 1;
        !removed.contains(&(idx - 1))
    });
    let gone: BTreeSet<&str> = fused.iter().map(|f| f.value.as_str()).collect();
    graph.value_info.retain(|info| !gone.contains(info.name.as_str()));
    drop_unused_initializers(&mut graph);
    Ok((graph, fused))
}

fn drop_unused_initializers(graph: &mut Graph) {
    let used: BTreeSet<String> = graph
        .nodes
        .iter()
        .flat_map(|n| n.inputs.iter().cloned())
        .chain(graph.output_names().map(str::to_owned))
        .chain(
            graph
                .nodes
                .iter()
                .flat_map(Node::subgraphs)
                .flat_map(|(_, g)| g.nodes.iter().flat_map(|n| n.inputs.clone())),
        )
        .collect();
    graph.initializers.retain(|i| used.contains(&i.name));
    let stored: BTreeSet<&str> = graph.initializers.iter().map(|i| i.name.as_str()).collect();
    graph
        .inputs
        .retain(|i| used.contains(&i.name) || !stored.contains(i.name.as_str()));
}

/// `x -> x * scale[c] + shift[c]`, in f64 so that folding a chain rounds once.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn identity(n: usize) -> Self {
        Self {
            scale: vec![1.0; n],
            shift: vec![0.0; n],
        }
    }

    fn then(&self, next: &Self) -> Self {
        let scale = self.scale.iter().zip(&next.scale).map(|(a, b)| a * b).collect();
        let shift = self
            .shift
            .iter()
            .zip(&next.scale)
            .zip(&next.shift)
            .map(|((t, s), u)| t * s + u)
            .collect();
        Self { scale, shift }
    }
}

struct Convolution<'a> {
    weight: &'a Tensor,
    weight_name: String,
    bias: Vec<f64>,
    /// The axis of the output channels in the weight.
    axis: usize,
    n_channels: usize,
}

impl<'a> Convolution<'a> {
    /// A Conv, or a ConvTranspose without groups, with constant float weights.
    fn new(program: &'a Program, topology: &Topology, idx: usize) -> Option<Self> {
        let node = &program.graph().nodes[idx];
        let transposed = node.is_onnx("ConvTranspose") && node.int("group").unwrap_or(1) == 1;
        if !node.is_onnx("Conv") && !transposed {
            return None;
        }
        let weight_name = node.input(1)?.to_owned();
        let weight = program
            .constant(&weight_name)
            .filter(|w| w.as_slice::<f32>().is_some() && w.rank() >= 3)?;
        let axis = usize::from(transposed);
        let n_channels = weight.shape()[axis];
        let bias = match node.input(2) {
            None => vec![0.0; n_channels],
            Some(name) => program
                .constant(name)?
                .to_f64_vec()
                .ok()
                .filter(|b| b.len() == n_channels)?,
        };
        // A computed input: folding a constant convolution is not our business.
        let computed = node.input(0).is_some_and(|x| program.constant(x).is_none());
        (computed && !topology.consumers(node.output(0)?).is_empty()).then_some(Self {
            weight,
            weight_name,
            bias,
            axis,
            n_channels,
        })
    }

    fn folded(&self, affine: &Affine) -> Result<(Tensor, Tensor), TensorError> {
        let values = self.weight.require::<f32>()?;
        let inner: usize = self.weight.shape()[self.axis + 1..].iter().product();
        let channel = |i: usize| i / inner.max(1) % self.n_channels;
        let weight = values
            .iter()
            .enumerate()
            .map(|(i, &w)| (f64::from(w) * affine.scale[channel(i)]) as f32)
            .collect();
        let bias = self
            .bias
            .iter()
            .zip(&affine.scale)
            .zip(&affine.shift)
            .map(|((b, s), t)| (b * s + t) as f32)
            .collect();
        Ok((
            Tensor::new(self.weight.shape(), weight)?,
            Tensor::vector::<f32>(bias),
        ))
    }
}

/// The affine nodes that follow node `idx`, each the only consumer of the one before.
fn affine_chain(
    program: &Program,
    topology: &Topology,
    idx: usize,
    n_channels: usize,
) -> Vec<(usize, Affine)> {
    let graph = program.graph();
    let mut chain = Vec::new();
    let mut at = idx;
    loop {
        let node = &graph.nodes[at];
        let Some(output) = node.output(0) else { break };
        let is_output = graph.is_output(output);
        let &[next] = topology.consumers(output) else {
            break;
        };
        if is_output {
            break;
        }
        let rank = program.graph().nodes[idx]
            .input(1)
            .and_then(|w| program.constant(w))
            .map_or(4, Tensor::rank);
        let Some(step) = affine_of(program, &graph.nodes[next], output, n_channels, rank) else {
            break;
        };
        chain.push((next, step));
        at = next;
    }
    chain
}

fn affine_of(program: &Program, node: &Node, x: &str, n: usize, rank: usize) -> Option<Affine> {
    let constants = |idx: usize| program.constant(node.input(idx)?);
    if node.is_onnx("BatchNormalization") {
        let vector = |idx: usize| constants(idx)?.to_f64_vec().ok().filter(|v| v.len() == n);
        let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let unused = node.outputs.iter().skip(1).all(String::is_empty);
        if node.input(0) != Some(x) || !unused || node.int("training_mode").unwrap_or(0) != 0 {
            return None;
        }
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(g, v)| g / (v + epsilon).sqrt())
            .collect();
        let shift = beta
            .iter()
            .zip(&mean)
            .zip(&scale)
            .map(|((b, m), s)| b - m * s)
            .collect();
        return Some(Affine { scale, shift });
    }
    let position = node.inputs.iter().position(|name| name == x)?;
    let other = per_channel(constants(1 - position.min(1))?, n, rank)?;
    let (identity, zero) = (vec![1.0; n], vec![0.0; n]);
    let first = position == 0;
    Some(match node.op_type.as_str() {
        _ if !node.domain.is_empty() || node.inputs.len() != 2 => return None,
        "Mul" => Affine {
            scale: other,
            shift: zero,
        },
        "Div" if first && other.iter().all(|&d| d != 0.0) => Affine {
            scale: other.iter().map(|d| 1.0 / d).collect(),
            shift: zero,
        },
        "Add" => Affine {
            scale: identity,
            shift: other,
        },
        "Sub" if first => Affine {
            scale: identity,
            shift: other.iter().map(|t| -t).collect(),
        },
        _ => return None,
    })
}

/// One number per channel, from a constant of one element or of shape `[.., C, 1, ..]` with the channel at axis 1.
fn per_channel(constant: &Tensor, n: usize, rank: usize) -> Option<Vec<f64>> {
    let values = constant
        .to_f64_vec()
        .ok()
        .filter(|_| constant.dtype().is_float())?;
    if values.len() == 1 && constant.rank() <= rank {
        return Some(vec![values[0]; n]);
    }
    let from_end = constant.rank().checked_sub(rank - 1)?;
    let fits = constant.rank() <= rank
        && constant
            .shape()
            .iter()
            .enumerate()
            .all(|(axis, &d)| if axis == from_end { d == n } else { d == 1 });
    fits.then_some(values)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Extra, TensorType, ValueInfo};

    use super::*;

    fn value(name: &str) -> ValueInfo {
        ValueInfo::tensor(
            name,
            TensorType {
                dtype: None,
                shape: None,
                extra: Extra::default(),
            },
        )
    }

    fn graph() -> Graph {
        let mut graph = Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes: vec![
                Node::new("Conv", "conv", &["x", "w"], &["a"]),
                Node::new("Mul", "mul", &["s", "a"], &["b"]),
                Node::new("Sub", "sub", &["b", "t"], &["c"]),
                Node::new("Relu", "relu", &["c"], &["y"]),
            ],
            ..Graph::default()
        };
        graph.set_initializer("w", Tensor::new(&[2, 1, 1, 1], vec![1.0_f32, 2.0]).unwrap());
        graph.set_initializer("s", Tensor::new(&[1, 2, 1, 1], vec![3.0_f32, 5.0]).unwrap());
        graph.set_initializer("t", Tensor::new(&[2, 1, 1], vec![0.5_f32, 0.25]).unwrap());
        graph
    }

    #[test]
    fn mul_and_sub_become_weight_and_bias_under_the_last_name() {
        let program = Program::from_graph(graph(), &|_| 13).unwrap();
        let topology = Topology::new(program.graph()).unwrap();
        let (folded, fused) = fold_batch_norm(&program, &topology).unwrap();
        assert_eq!(
            folded
                .nodes
                .iter()
                .map(|n| n.op_type.as_str())
                .collect::<Vec<_>>(),
            ["Conv", "Relu"]
        );
        assert_eq!(folded.nodes[0].outputs, ["c"]);
        assert_eq!(
            folded
                .initializer("w")
                .unwrap()
                .tensor()
                .unwrap()
                .as_slice::<f32>()
                .unwrap(),
            [3.0, 10.0]
        );
        assert_eq!(
            folded
                .initializer("c_bias")
                .unwrap()
                .tensor()
                .unwrap()
                .as_slice::<f32>()
                .unwrap(),
            [-0.5, -0.25]
        );
        assert_eq!(
            fused.iter().map(|f| f.value.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(
            folded.initializer("s").is_none(),
            "a constant that nothing uses is dropped"
        );
    }

    #[test]
    fn a_constant_along_the_width_is_no_channel_constant() {
        let wide = Tensor::new(&[1, 1, 1, 2], vec![1.0_f32, 2.0]).unwrap();
        assert_eq!(per_channel(&wide, 2, 4), None);
        let vector = Tensor::vector(vec![1.0_f32, 2.0]);
        assert_eq!(per_channel(&vector, 2, 4), None);
    }

    #[test]
    fn a_value_with_a_second_consumer_is_not_folded_away() {
        let mut graph = graph();
        graph.nodes.push(Node::new("Neg", "neg", &["a"], &["z"]));
        graph.outputs.push(value("z"));
        let program = Program::from_graph(graph, &|_| 13).unwrap();
        let topology = Topology::new(program.graph()).unwrap();
        let (folded, fused) = fold_batch_norm(&program, &topology).unwrap();
        assert_eq!((folded.nodes.len(), fused.len()), (5, 0));
    }
}

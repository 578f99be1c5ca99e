//! What a graph computes from constants alone, as far as quantization needs it: scales, zero points, weights.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{EvalContext, Layout, ops};
use qloupe_ir::{Model, Node, Topology};
use qloupe_tensor::{DType, Granularity, QuantParams, Tensor, TensorError};

use crate::Error;

/// Constants by name; those that could not be computed are absent.
#[derive(Debug)]
pub(super) struct Constants {
    values: BTreeMap<String, Tensor>,
    /// Values that depend on stored tensors only, computed or not.
    names: BTreeSet<String>,
}

impl Constants {
    /// Computes the inputs and outputs of the quantizing nodes that depend on stored tensors only.
    ///
    /// # Errors
    /// A stored tensor that cannot be decoded.
    pub(super) fn of(file: &str, model: &Model, topology: &Topology) -> Result<Self, Error> {
        let graph = &model.graph;
        let mut names: BTreeSet<String> = graph.initializers.iter().map(|i| i.name.clone()).collect();
        for node in &graph.nodes {
            let pure =
                node.subgraphs().next().is_none() && (!node.inputs.is_empty() || node.is_onnx("Constant"));
            if pure
                && node
                    .inputs
                    .iter()
                    .all(|name| name.is_empty() || names.contains(name))
            {
                names.extend(node.outputs.iter().filter(|name| !name.is_empty()).cloned());
            }
        }
        let quantizing = |n: &&Node| n.is_onnx("QuantizeLinear") || n.is_onnx("DequantizeLinear");
        let around = graph.nodes.iter().filter(quantizing);
        let goals: Vec<&str> = around
            .flat_map(|n| n.inputs.iter().chain(&n.outputs))
            .filter(|name| names.contains(*name))
            .map(String::as_str)
            .collect();
        let needed = topology.needed_for(graph, &goals, &BTreeSet::new());
        let mut values = BTreeMap::new();
        for stored in graph
            .initializers
            .iter()
            .filter(|i| needed.values.contains(i.name.as_str()))
        {
            let tensor = stored.value.tensor().map_err(|source| Error::Graph {
                file: file.to_owned(),
                source,
            })?;
            values.insert(stored.name.clone(), tensor);
        }
        for &idx in &needed.nodes {
            let node = &graph.nodes[idx];
            for (name, value) in node
                .outputs
                .iter()
                .zip(evaluate(model, node, &values).unwrap_or_default())
            {
                values.insert(name.clone(), value);
            }
        }
        Ok(Self { values, names })
    }

    /// The tensor of a constant.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.values.get(name)
    }

    /// True for a value that depends on stored tensors only.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The parameters of a QuantizeLinear or DequantizeLinear.
    ///
    /// # Errors
    /// Why they are none: see [`NoParams`].
    pub(super) fn params(
        &self,
        node: &Node,
        dtype: Option<DType>,
        rank: Option<usize>,
    ) -> Result<QuantParams, NoParams> {
        let scale = node
            .input(1)
            .and_then(|name| self.get(name))
            .ok_or(NoParams::Computed)?;
        if scale.dtype() != DType::Float32 {
            return Err(NoParams::ScaleType(scale.dtype()));
        }
        let scale = scale.require::<f32>()?.to_vec();
        let stored_zero_point = match node.input(2) {
            Some(name) => Some(self.get(name).ok_or(NoParams::Computed)?),
            None => None,
        };
        let attribute = || {
            node.int("output_dtype")
                .and_then(|n| DType::from_onnx(i32::try_from(n).ok()?))
        };
        let dtype = dtype
            .or_else(|| stored_zero_point.map(Tensor::dtype))
            .or_else(|| attribute().filter(|_| node.is_onnx("QuantizeLinear")))
            .unwrap_or(DType::UInt8);
        let zero_point = match stored_zero_point {
            Some(tensor) => integers(tensor).ok_or(NoParams::Type(dtype))?,
            None => vec![0; scale.len()],
        };
        let axis = || {
            let axis = node.int("axis").unwrap_or(1);
            let rank = rank.and_then(|rank| i64::try_from(rank).ok());
            let resolved = match rank {
                Some(rank) if axis < 0 => axis.saturating_add(rank),
                _ => axis,
            };
            usize::try_from(resolved).map_err(|_| NoParams::Axis(axis))
        };
        let granularity = match node.int("block_size").unwrap_or(0) {
            0 if scale.len() == 1 => Granularity::PerTensor,
            0 => Granularity::PerChannel { axis: axis()? },
            size => Granularity::PerBlock {
                axis: axis()?,
                block_size: usize::try_from(size).map_err(|_| NoParams::Axis(size))?,
            },
        };
        Ok(QuantParams::new(dtype, granularity, scale, zero_point)?)
    }
}

/// Why a node has no parameters that a plan can hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NoParams {
    /// The scale or the zero point depends on the data.
    Computed,
    /// The scale is not float32.
    ScaleType(DType),
    /// The integers are of a type without zero points.
    Type(DType),
    /// The axis lies outside of the tensor.
    Axis(i64),
    /// A scale or a zero point that is not valid.
    Invalid(TensorError),
}

impl From<TensorError> for NoParams {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::NotQuantizable { dtype } => Self::Type(dtype),
            error => Self::Invalid(error),
        }
    }
}

impl std::fmt::Display for NoParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Computed => f.write_str("its scale is computed as the model runs"),
            Self::ScaleType(dtype) => write!(f, "its scale is {dtype}, expected float32"),
            Self::Type(dtype) => write!(f, "{dtype} holds no integers with a zero point"),
            Self::Axis(axis) => write!(f, "axis {axis} lies outside of the tensor"),
            Self::Invalid(error) => write!(f, "{error}"),
        }
    }
}

/// The integers of a small tensor of any integer type.
pub(super) fn integers(tensor: &Tensor) -> Option<Vec<i32>> {
    tensor.dtype().integer_range()?;
    // Every integer of at most 32 bits is exact in f64.
    let numbers = tensor.to_f64_vec().ok()?;
    numbers
        .into_iter()
        .map(|v| i32::try_from(v as i64).ok())
        .collect()
}

fn evaluate(model: &Model, node: &Node, values: &BTreeMap<String, Tensor>) -> Option<Vec<Tensor>> {
    let operator = ops::find(&node.op_type, &node.domain)?;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        inputs.push(if name.is_empty() {
            None
        } else {
            Some(values.get(name)?)
        });
    }
    let ctx = EvalContext {
        node,
        opset: model.opset_of(&node.domain).unwrap_or(1),
        layout: Layout::Plain,
        inputs: &inputs,
    };
    operator.eval(&ctx).ok()
}

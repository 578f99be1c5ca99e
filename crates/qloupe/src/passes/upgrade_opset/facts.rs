//! What is known about the values of a graph before it is rewritten: declared types, constants, producers.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::{Attribute, AttributeValue, Constant, Dim, Graph, Node, TensorType};
use qloupe_tensor::{DType, Tensor};

/// What is known about the values of a graph before it is rewritten.
pub(super) struct Facts<'a> {
    declared: BTreeMap<String, TensorType>,
    constants: BTreeMap<String, Constant>,
    producers: BTreeMap<String, Node>,
    outer: Option<&'a Facts<'a>>,
}

/// How far back through producers a rank is looked for.
pub(super) const MAX_TRACE: usize = 64;

/// Operators whose output has the shape of their first input.
const SAME_SHAPE: &[&str] = &[
    "BatchNormalization",
    "Cast",
    "Clip",
    "Dropout",
    "Elu",
    "Hardmax",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Tanh",
];

impl<'a> Facts<'a> {
    pub(super) fn new(graph: &Graph, outer: Option<&'a Facts<'a>>) -> Self {
        let infos = graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_info);
        let mut producers = BTreeMap::new();
        for node in &graph.nodes {
            for output in &node.outputs {
                // Subgraphs are left out: they are large and say nothing about the type.
                let mut producer = Node {
                    attributes: Vec::new(),
                    ..node.clone()
                };
                let small = |a: &&Attribute| matches!(a.value, AttributeValue::Int(_));
                producer
                    .attributes
                    .extend(node.attributes.iter().filter(small).cloned());
                producers.insert(output.clone(), producer);
            }
        }
        Self {
            declared: infos
                .filter_map(|info| Some((info.name.clone(), info.tensor_type()?.clone())))
                .collect(),
            constants: graph
                .constants()
                .into_iter()
                .map(|(name, constant)| (name.to_owned(), constant.clone()))
                .collect(),
            producers,
            outer,
        }
    }

    fn find<T>(&self, get: impl Fn(&Self) -> Option<T>) -> Option<T> {
        let mut scope = Some(self);
        while let Some(facts) = scope {
            if let Some(found) = get(facts) {
                return Some(found);
            }
            scope = facts.outer;
        }
        None
    }

    pub(super) fn constant(&self, name: &str) -> Option<Tensor> {
        self.find(|facts| facts.constants.get(name).cloned())?
            .tensor()
            .ok()
    }

    fn producer(&self, name: &str) -> Option<Node> {
        self.find(|facts| facts.producers.get(name).cloned())
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<Dim>> {
        let declared = |facts: &Self| facts.declared.get(name)?.shape.clone();
        self.find(declared).or_else(|| {
            let constant = self.find(|facts| facts.constants.get(name).cloned())?;
            let dims = constant.shape().iter();
            Some(
                dims.map(|&dim| Dim::Known(i64::try_from(dim).unwrap_or(-1)))
                    .collect(),
            )
        })
    }

    pub(super) fn rank(&self, name: &str, n_left: usize) -> Option<usize> {
        if let Some(shape) = self.shape(name) {
            return Some(shape.len());
        }
        let producer = self.producer(name).filter(|_| n_left > 0)?;
        match producer.op_type.as_str() {
            "Gemm" | "Flatten" => Some(2),
            "Reshape" => self.constant(producer.input(1)?).map(|shape| shape.len()),
            op_type if SAME_SHAPE.contains(&op_type) => self.rank(producer.input(0)?, n_left - 1),
            _ => None,
        }
    }

    /// The dtype of a float value: declared, or that of the float values it is computed from.
    pub(super) fn float_dtype(&self, name: &str) -> Option<DType> {
        let mut seen = BTreeSet::new();
        let mut to_trace = vec![name.to_owned()];
        while let Some(name) = to_trace.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let declared = |facts: &Self| facts.declared.get(&name)?.dtype;
            let stored = |facts: &Self| facts.constants.get(&name).map(Constant::dtype);
            let known = self.find(declared).or_else(|| self.find(stored));
            if let Some(dtype) = known {
                if dtype.is_float() {
                    return Some(dtype);
                }
                continue;
            }
            let Some(producer) = self.producer(&name) else {
                continue;
            };
            match producer.int("to") {
                Some(to) => {
                    let to = i32::try_from(to).ok().and_then(DType::from_onnx);
                    if let Some(dtype) = to.filter(|dtype| dtype.is_float()) {
                        return Some(dtype);
                    }
                }
                None => to_trace.extend(producer.inputs.into_iter().rev()),
            }
        }
        None
    }
}

//! Concat and Split along channels: where the channels of their parts are among those of the whole.

use std::collections::BTreeMap;

use qloupe_ir::{Graph, Model, Node};

use crate::shapes;

/// One Concat or Split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    /// The axis along which it joins, not negative.
    pub(crate) axis: usize,
    /// The result of a Concat, the input of a Split.
    pub(crate) whole: String,
    /// The others, in order.
    pub(crate) parts: Vec<Part>,
}

/// A value that is a part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) value: String,
    /// Where its first channel is in the whole.
    pub(crate) offset: usize,
    pub(crate) n_channels: usize,
}

/// The joins of a graph whose ranks and sizes can be inferred, by the first output of their nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joins {
    by_output: BTreeMap<String, Join>,
}

impl Joins {
    /// What shapes that are known before anything runs tell of a model.
    pub(crate) fn new(model: &Model) -> Self {
        let is_join = |node: &Node| node.is_onnx("Concat") || node.is_onnx("Split");
        if !model.graph.nodes.iter().any(is_join) {
            return Self::default();
        }
        let facts = shapes::infer(model, &BTreeMap::new()).map(|inference| inference.facts);
        let facts = facts.unwrap_or_default();
        let dims = |name: &str| facts.get(name)?.shape.as_ref();
        let rank = |name: &str| dims(name).map(Vec::len);
        let size = |name: &str, axis: usize| dims(name)?.get(axis)?.as_size();
        Self::of_graph(&model.graph, &rank, &size)
    }

    /// As [`Joins::new`], by ranks and sizes that are known.
    pub(super) fn of_graph(
        graph: &Graph,
        rank: &dyn Fn(&str) -> Option<usize>,
        size: &dyn Fn(&str, usize) -> Option<usize>,
    ) -> Self {
        let join = |node: &Node| {
            let (whole, parts, default) = match node.op_type.as_str() {
                "Concat" => (node.output(0)?, &node.inputs, None),
                "Split" => (node.input(0)?, &node.outputs, Some(0)),
                _ => return None,
            };
            let axis = node.int("axis").or(default)?;
            let axis = if axis < 0 {
                axis + rank(whole)? as i64
            } else {
                axis
            };
            let axis = usize::try_from(axis).ok().filter(|_| node.domain.is_empty())?;
            let mut offset = 0;
            let mut placed = Vec::new();
            for value in parts {
                let n_channels = size(value, axis)?;
                placed.push(Part {
                    value: value.clone(),
                    offset,
                    n_channels,
                });
                offset += n_channels;
            }
            let join = Join {
                axis,
                whole: whole.to_owned(),
                parts: placed,
            };
            Some((node.output(0)?.to_owned(), join))
        };
        Self {
            by_output: graph.nodes.iter().filter_map(join).collect(),
        }
    }

    /// The join of a node.
    pub(crate) fn of(&self, node: &Node) -> Option<&Join> {
        self.by_output.get(node.output(0)?)
    }
}

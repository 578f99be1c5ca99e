//! Parts of a network output that have a range of their own: the boxes and the scores of a detector.
//!
//! The graph tells first: members of the Concat that an output comes from, followed through operators that keep an axis.
//! Where it tells nothing, the data does: neighbouring indices whose magnitudes lie far apart.

use std::collections::HashMap;

use qloupe_ir::{Graph, Node};
use qloupe_tensor::Tensor;

/// Magnitudes further apart than this are parts of their own.
const RANGE_RATIO: f32 = 32.0;
/// More parts than this are no structure.
const MAX_PARTS: usize = 8;
/// Axes longer than this hold positions, not kinds.
const MAX_AXIS: usize = 1024;

/// Indices `start..end` of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceSpec {
    pub(crate) axis: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) label: Option<String>,
}

impl SliceSpec {
    /// The elements of the slice.
    pub(crate) fn cut(&self, tensor: &Tensor) -> Vec<f32> {
        let Some(values) = tensor.as_slice::<f32>() else {
            return Vec::new();
        };
        let shape = tensor.shape();
        let inner: usize = shape[self.axis + 1..].iter().product();
        values
            .chunks(shape[self.axis] * inner)
            .flat_map(|chunk| chunk[self.start * inner..self.end * inner].iter().copied())
            .collect()
    }

    /// True for the place of an element, in row-major order, that is in the slice.
    pub(crate) fn contains(&self, shape: &[usize], idx: usize) -> bool {
        let Some(&dim) = shape.get(self.axis) else {
            return false;
        };
        let inner: usize = shape[self.axis + 1..].iter().product();
        (self.start..self.end).contains(&(idx / inner.max(1) % dim.max(1)))
    }
}

/// The parts of an output.
pub(crate) fn find(
    graph: &Graph,
    shapes: &HashMap<String, Vec<usize>>,
    name: &str,
    golden: &Tensor,
) -> Vec<SliceSpec> {
    let traced = trace(graph, shapes, name, 0);
    if traced.is_empty() {
        by_magnitude(golden)
    } else {
        traced
    }
}

/// How deep a chain of operators is followed.
const MAX_DEPTH: usize = 16;

fn trace(graph: &Graph, shapes: &HashMap<String, Vec<usize>>, name: &str, depth: usize) -> Vec<SliceSpec> {
    let node = graph.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name));
    let (Some(node), Some(shape)) = (node, shapes.get(name)) else {
        return Vec::new();
    };
    if depth == MAX_DEPTH || !node.domain.is_empty() {
        return Vec::new();
    }
    let from = |idx: usize| {
        node.input(idx)
            .map_or(Vec::new(), |x| trace(graph, shapes, x, depth + 1))
    };
    match node.op_type.as_str() {
        "Concat" => {
            let mut found = members(node, shapes, shape);
            let own_axis = found.first().map(|s| s.axis);
            // Members that are joined alike along another axis tell about that axis.
            found.extend(from(0).into_iter().filter(|s| Some(s.axis) != own_axis));
            found
        }
        "Transpose" => {
            let reversed: Vec<i64> = (0..shape.len() as i64).rev().collect();
            let perm = node.ints("perm").unwrap_or(&reversed).to_vec();
            let moved = |mut s: SliceSpec| {
                s.axis = perm.iter().position(|&p| usize::try_from(p) == Ok(s.axis))?;
                Some(s)
            };
            from(0).into_iter().filter_map(moved).collect()
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let Some(before) = node.input(0).and_then(|x| shapes.get(x)) else {
                return Vec::new();
            };
            let kept = |mut s: SliceSpec| {
                s.axis = same_axis(before, s.axis, shape)?;
                Some(s)
            };
            from(0).into_iter().filter_map(kept).collect()
        }
        "Sigmoid" | "Identity" | "Cast" | "Relu" | "Clip" | "Tanh" => from(0),
        _ => Vec::new(),
    }
}

fn members(node: &Node, shapes: &HashMap<String, Vec<usize>>, shape: &[usize]) -> Vec<SliceSpec> {
    let rank = shape.len() as i64;
    let axis = node.int("axis").unwrap_or(0);
    let Ok(axis) = usize::try_from(if axis < 0 { axis + rank } else { axis }) else {
        return Vec::new();
    };
    let mut start = 0;
    let mut found = Vec::new();
    for name in &node.inputs {
        let Some(&size) = shapes.get(name).and_then(|s| s.get(axis)) else {
            return Vec::new();
        };
        found.push(SliceSpec {
            axis,
            start,
            end: start + size,
            label: Some(name.clone()),
        });
        start += size;
    }
    if (2..=MAX_PARTS).contains(&found.len()) {
        found
    } else {
        Vec::new()
    }
}

/// The axis of the reshaped tensor with the same size and the same number of elements behind it.
fn same_axis(before: &[usize], axis: usize, after: &[usize]) -> Option<usize> {
    let inner: usize = before[axis + 1..].iter().product();
    (0..after.len()).find(|&a| after[a] == before[axis] && after[a + 1..].iter().product::<usize>() == inner)
}

fn by_magnitude(golden: &Tensor) -> Vec<SliceSpec> {
    // Class scores `[N, classes]` differ by nature: they are one kind.
    let Some(values) = golden.as_slice::<f32>().filter(|_| golden.rank() >= 3) else {
        return Vec::new();
    };
    for axis in 1..golden.rank() {
        let n = golden.shape()[axis];
        if !(2..=MAX_AXIS).contains(&n) {
            continue;
        }
        let inner: usize = golden.shape()[axis + 1..].iter().product();
        let mut magnitude = vec![0_f32; n];
        for (run, chunk) in values.chunks(inner.max(1)).enumerate() {
            let largest = chunk.iter().fold(0_f32, |m, v| m.max(v.abs()));
            magnitude[run % n] = magnitude[run % n].max(largest);
        }
        let parts = split_by_ratio(&magnitude);
        // A part of one index among many is an outlier, not a kind.
        if (2..=MAX_PARTS).contains(&parts.len())
            && parts.iter().all(|(start, end)| end - start > 1 || n <= MAX_PARTS)
        {
            let spec = |(start, end)| SliceSpec {
                axis,
                start,
                end,
                label: None,
            };
            return parts.into_iter().map(spec).collect();
        }
    }
    Vec::new()
}

fn split_by_ratio(magnitude: &[f32]) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut start = 0;
    let (mut low, mut high) = (f32::INFINITY, 0_f32);
    for (idx, &m) in magnitude.iter().enumerate() {
        let (next_low, next_high) = (low.min(m), high.max(m));
        if idx > start && next_high > RANGE_RATIO * next_low {
            parts.push((start, idx));
            (start, low, high) = (idx, m, m);
        } else {
            (low, high) = (next_low, next_high);
        }
    }
    parts.push((start, magnitude.len()));
    parts
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn members_of_a_concat_are_followed_through_transpose_and_reshape() {
        let graph = Graph {
            nodes: vec![
                Node::new("Concat", "c", &["boxes", "scores"], &["joined"])
                    .with_attribute("axis", AttributeValue::Int(1)),
                Node::new("Transpose", "t", &["joined"], &["turned"])
                    .with_attribute("perm", AttributeValue::Ints(vec![0, 2, 1])),
                Node::new("Unsqueeze", "u", &["turned", "axes"], &["y"]),
            ],
            ..Graph::default()
        };
        let shapes = HashMap::from([
            ("boxes".to_owned(), vec![1, 4, 7]),
            ("scores".to_owned(), vec![1, 2, 7]),
            ("joined".to_owned(), vec![1, 6, 7]),
            ("turned".to_owned(), vec![1, 7, 6]),
            ("y".to_owned(), vec![1, 1, 7, 6]),
        ]);
        let golden = Tensor::new(&[1, 1, 7, 6], vec![0_f32; 42]).unwrap();
        let found = find(&graph, &shapes, "y", &golden);
        let boxes = SliceSpec {
            axis: 3,
            start: 0,
            end: 4,
            label: Some("boxes".to_owned()),
        };
        let scores = SliceSpec {
            axis: 3,
            start: 4,
            end: 6,
            label: Some("scores".to_owned()),
        };
        assert_eq!(found, [boxes, scores]);
    }

    #[test]
    fn without_structure_magnitudes_tell() {
        let golden = Tensor::new(
            &[1, 2, 4],
            vec![300.0_f32, 200.0, 0.5, 0.9, 250.0, 310.0, 0.1, 0.3],
        )
        .unwrap();
        let found = find(&Graph::default(), &HashMap::new(), "y", &golden);
        assert_eq!(
            found.iter().map(|s| (s.axis, s.start, s.end)).collect::<Vec<_>>(),
            [(2, 0, 2), (2, 2, 4)]
        );
        assert_eq!(found[1].cut(&golden), [0.5, 0.9, 0.1, 0.3]);
        let even = Tensor::new(&[1, 4, 1], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(find(&Graph::default(), &HashMap::new(), "y", &even), []);
    }
}

//! `resolve_branches`: an `If` whose condition depends on shapes and constants alone becomes the branch it takes.
//!
//! Exporters write such nodes for code that asks for a rank or a size. What stands in a branch can only be quantized and
//! compared once it is a part of the graph.

use std::collections::BTreeMap;

use qloupe_ir::Model;

use crate::shapes;

/// Replaces every `If` of known condition, those within branches too; `shapes` fix open dimensions of inputs. One line
/// for each.
pub fn resolve_branches(model: &mut Model, shapes: &BTreeMap<String, Vec<usize>>) -> Vec<String> {
    let mut changes = Vec::new();
    while model.graph.nodes.iter().any(|node| node.is_onnx("If")) {
        let Ok(inferred) = shapes::infer(model, shapes) else {
            break;
        };
        let condition = |name: &str| {
            let constant = inferred.facts.get(name)?.constant.as_ref()?;
            constant.as_slice::<bool>()?.first().copied()
        };
        let nodes = model.graph.nodes.iter().enumerate();
        let known = nodes.filter_map(|(idx, node)| {
            let taken = node.is_onnx("If").then(|| condition(node.input(0)?))??;
            Some((idx, if taken { "then_branch" } else { "else_branch" }))
        });
        let known: Vec<(usize, &str)> = known.collect();
        if known.is_empty() {
            break;
        }
        // From the end, so that the indices before stay what they are.
        for (idx, branch) in known.into_iter().rev() {
            let label = model.graph.nodes[idx].label().to_owned();
            model.graph.inline_branch(idx, branch);
            changes.push(format!(
                "If \"{label}\": its condition depends on shapes alone, {branch} takes its place"
            ));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use qloupe_exec::Program;
    use qloupe_ir::{AttributeValue, Dim, Graph, Node, OpsetImport, TensorType, ValueInfo};
    use qloupe_tensor::{DType, Tensor};

    use super::*;

    /// y = Squeeze(x) if x has one column, else x: what exporters write for `squeeze(1)`.
    fn model() -> Model {
        let constant = |name: &str, tensor: Tensor| {
            Node::new("Constant", name, &[], &[name])
                .with_attribute("value", AttributeValue::Tensor(tensor.into()))
        };
        let branch = |node: Node| {
            AttributeValue::Graph(Box::new(Graph {
                outputs: vec![ValueInfo::untyped("r")],
                nodes: vec![Node::new("Neg", "neg", &["x"], &["n"]), node],
                ..Graph::default()
            }))
        };
        let dims = vec![Dim::Symbol("n".to_owned()), Dim::Symbol("m".to_owned())];
        let ty = TensorType {
            dtype: Some(DType::Float32),
            shape: Some(dims),
            extra: Default::default(),
        };
        let nodes = vec![
            constant("one", Tensor::scalar(1_i64)),
            constant("axes", Tensor::vector(vec![1_i64])),
            Node::new("Shape", "shape", &["x"], &["s"]),
            Node::new("Gather", "gather", &["s", "one"], &["columns"]),
            Node::new("Equal", "equal", &["columns", "one"], &["is_one"]),
            Node::new("If", "if", &["is_one"], &["y"])
                .with_attribute(
                    "then_branch",
                    branch(Node::new("Squeeze", "", &["n", "axes"], &["r"])),
                )
                .with_attribute("else_branch", branch(Node::new("Identity", "", &["n"], &["r"]))),
        ];
        Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            graph: Graph {
                inputs: vec![ValueInfo::tensor("x", ty)],
                outputs: vec![ValueInfo::untyped("y")],
                nodes,
                ..Graph::default()
            },
            ..Model::default()
        }
    }

    #[test]
    fn a_condition_on_shapes_is_decided_once_the_shape_is_known() {
        assert!(
            resolve_branches(&mut model(), &BTreeMap::new()).is_empty(),
            "m is open"
        );
        for (columns, branch, shape) in [(1, "then_branch", &[2][..]), (3, "else_branch", &[2, 3][..])] {
            let mut resolved = model();
            let shapes = BTreeMap::from([("x".to_owned(), vec![2, columns])]);
            let changes = resolve_branches(&mut resolved, &shapes);
            assert_eq!(
                changes,
                [format!(
                    "If \"if\": its condition depends on shapes alone, {branch} takes its place"
                )]
            );
            let program = Program::new(&resolved).unwrap();
            assert!(program.values().any(|name| name == format!("if/{branch}/n")));
            let x = Tensor::new(&[2, columns], vec![1_f32; 2 * columns]).unwrap();
            let y = program.run(vec![("x".to_owned(), x)]).unwrap();
            assert_eq!(y[0].1, Tensor::new(shape, vec![-1_f32; 2 * columns]).unwrap());
        }
    }
}

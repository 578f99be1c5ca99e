//! Raises a model to a newer version of the default operator set, without changing what it computes.
//!
//! One table lists the versions at which the meaning or the form of an operator changed; an operator that is not in it
//! means in every newer version what it meant before. Whatever cannot be expressed in the newer version is refused,
//! all places at once, and the model stays as it is.

mod facts;
mod steps;

use std::collections::BTreeSet;

use qloupe_ir::{AttributeValue, Graph, Model};

use facts::Facts;
use steps::{Rewrite, STEPS};

/// The oldest operator set that is raised.
const MIN_SOURCE: i64 = 7;

/// The operator sets that a model can be raised to.
const TARGETS: std::ops::RangeInclusive<i64> = 13..=21;

/// The version of the file format that came with each operator set, from opset 13 on
/// (docs/Versioning.md of ONNX).
const IR_VERSIONS: &[(i64, i64)] = &[(13, 7), (15, 8), (19, 9), (21, 10)];

/// From this version of the file format on, an initializer that is listed among the inputs is no constant.
const IR_VERSION_WITH_OVERRIDES: i64 = 4;

/// A model that cannot be raised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The target is out of range.
    #[error("a model cannot be raised to opset {target}, expected {} to {}", TARGETS.start(), TARGETS.end())]
    Target {
        /// The operator set that was asked for.
        target: i64,
    },
    /// The model is too old.
    #[error("the model uses opset {opset}, expected at least {MIN_SOURCE}: export it again")]
    Source {
        /// The operator set of the model.
        opset: i64,
    },
    /// Nodes that mean something else in the newer operator set: all of them.
    #[error("the model cannot be raised from opset {from} to {target}: {}", join(.refusals))]
    Refused {
        /// The operator set of the model.
        from: i64,
        /// The operator set that was asked for.
        target: i64,
        /// Every node in the way.
        refusals: Vec<Refusal>,
    },
}

/// Why one node cannot be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// The reason, with a remedy where there is one.
    pub reason: String,
}

fn join(refusals: &[Refusal]) -> String {
    let texts: Vec<String> = refusals
        .iter()
        .map(|r| format!("node \"{}\" ({}): {}", r.node, r.op_type, r.reason))
        .collect();
    texts.join("; ")
}

/// Raises the default operator set of a model to `target`, and says what it changed.
///
/// A model of that version or a newer one stays as it is. Names of values stay; new constants and inner values are
/// named after the output of their node.
///
/// # Errors
/// A target or a model out of range, or nodes that mean something else in the newer version (all are listed, and the
/// model stays as it is).
pub fn upgrade_opset(model: &mut Model, target: i64) -> Result<Vec<String>, UpgradeError> {
    let from = model.opset();
    if !TARGETS.contains(&target) {
        return Err(UpgradeError::Target { target });
    }
    if from < MIN_SOURCE {
        return Err(UpgradeError::Source { opset: from });
    }
    if from >= target {
        return Ok(Vec::new());
    }
    let mut upgrade = Upgrade {
        from,
        target,
        names: BTreeSet::new(),
        changes: Vec::new(),
        refusals: Vec::new(),
    };
    for function in &model.functions {
        upgrade.refusals.push(Refusal {
            node: function.name.clone(),
            op_type: "function".to_owned(),
            reason: "functions of a model are not raised: inline them".to_owned(),
        });
    }
    collect_names(&model.graph, &mut upgrade.names);
    let mut graph = model.graph.clone();
    upgrade.raise_graph(&mut graph, None);
    if !upgrade.refusals.is_empty() {
        return Err(UpgradeError::Refused {
            from,
            target,
            refusals: upgrade.refusals,
        });
    }
    model.graph = graph;
    model.set_opset(target);
    let mut changes = upgrade.changes;
    changes.push(format!("opset {from} became {target}"));
    raise_ir_version(model, target, &mut changes);
    Ok(changes)
}

fn raise_ir_version(model: &mut Model, target: i64, changes: &mut Vec<String>) {
    let needed = IR_VERSIONS.iter().rev().find(|row| row.0 <= target);
    let needed = needed.map_or(0, |row| row.1);
    if model.ir_version >= needed {
        return;
    }
    changes.push(format!("IR version {} became {needed}", model.ir_version));
    if model.ir_version < IR_VERSION_WITH_OVERRIDES {
        let stored: BTreeSet<String> = model.graph.initializers.iter().map(|i| i.name.clone()).collect();
        let n_inputs = model.graph.inputs.len();
        model.graph.inputs.retain(|input| !stored.contains(&input.name));
        if model.graph.inputs.len() < n_inputs {
            changes.push("initializers are no longer listed among the inputs".to_owned());
        }
    }
    model.ir_version = needed;
}

/// The state of one call of [`upgrade_opset`].
struct Upgrade {
    from: i64,
    target: i64,
    /// Every name of the model, so that new ones are new.
    names: BTreeSet<String>,
    changes: Vec<String>,
    refusals: Vec<Refusal>,
}

impl Upgrade {
    fn raise_graph(&mut self, graph: &mut Graph, outer: Option<&Facts<'_>>) {
        let facts = Facts::new(graph, outer);
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for mut node in std::mem::take(&mut graph.nodes) {
            for attribute in &mut node.attributes {
                match &mut attribute.value {
                    AttributeValue::Graph(subgraph) => self.raise_graph(subgraph, Some(&facts)),
                    AttributeValue::Graphs(subgraphs) => {
                        for subgraph in subgraphs {
                            self.raise_graph(subgraph, Some(&facts));
                        }
                    }
                    _ => {}
                }
            }
            let mut rewrite = Rewrite {
                node,
                facts: &facts,
                names: &mut self.names,
                constants: Vec::new(),
                before: Vec::new(),
                after: Vec::new(),
            };
            for (op_type, version, apply) in STEPS {
                if !(rewrite.node.is_onnx(op_type) && self.from < *version && *version <= self.target) {
                    continue;
                }
                let label = rewrite.node.label().to_owned();
                match apply(&mut rewrite) {
                    Ok(Some(change)) => self
                        .changes
                        .push(format!("node \"{label}\" ({op_type}): {change}")),
                    Ok(None) => {}
                    Err(reason) => self.refusals.push(Refusal {
                        node: label,
                        op_type: (*op_type).to_owned(),
                        reason,
                    }),
                }
            }
            graph.initializers.append(&mut rewrite.constants);
            nodes.append(&mut rewrite.before);
            nodes.push(rewrite.node);
            nodes.append(&mut rewrite.after);
        }
        graph.nodes = nodes;
    }
}

fn collect_names(graph: &Graph, names: &mut BTreeSet<String>) {
    let infos = graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_info);
    names.extend(infos.map(|info| info.name.clone()));
    names.extend(graph.initializers.iter().map(|i| i.name.clone()));
    for node in &graph.nodes {
        names.extend(node.inputs.iter().chain(&node.outputs).cloned());
        for (_, subgraph) in node.subgraphs() {
            collect_names(subgraph, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Constant, Dim, Extra, Node, TensorType, ValueInfo};
    use qloupe_tensor::{DType, Tensor};

    use super::*;

    /// A model with input `x` of that dtype and shape, and output `y`.
    fn model(opset: i64, dtype: DType, shape: Option<&[i64]>, nodes: Vec<Node>) -> Model {
        let ty = TensorType {
            dtype: Some(dtype),
            shape: shape.map(|dims| dims.iter().map(|&dim| Dim::Known(dim)).collect()),
            extra: Extra::default(),
        };
        let mut model = Model {
            ir_version: 7,
            graph: Graph {
                nodes,
                inputs: vec![ValueInfo::tensor("x", ty)],
                ..Graph::default()
            },
            ..Model::default()
        };
        model.set_opset(opset);
        model
    }

    fn ints(values: &[i64]) -> AttributeValue {
        AttributeValue::Ints(values.to_vec())
    }

    /// The nodes and the new constants as text: `op(inputs){attributes} -> outputs`.
    fn text(graph: &Graph) -> String {
        let mut lines: Vec<String> = graph
            .initializers
            .iter()
            .map(|i| {
                let tensor = i.value.tensor().unwrap();
                format!(
                    "{} = {} {:?} {:?}",
                    i.name,
                    tensor.dtype(),
                    tensor.shape(),
                    tensor.to_f64_vec().unwrap()
                )
            })
            .collect();
        for node in &graph.nodes {
            let attributes: Vec<String> = node
                .attributes
                .iter()
                .map(|a| match &a.value {
                    AttributeValue::Int(value) => format!("{}={value}", a.name),
                    AttributeValue::String(value) => {
                        format!("{}={}", a.name, String::from_utf8_lossy(value))
                    }
                    other => format!("{}={other:?}", a.name),
                })
                .collect();
            lines.push(format!(
                "{}({}){{{}}} -> {}",
                node.op_type,
                node.inputs.join(", "),
                attributes.join(", "),
                node.outputs.join(", ")
            ));
        }
        lines.join("\n")
    }

    #[test]
    fn attributes_become_inputs() {
        struct Case {
            opset: i64,
            target: i64,
            node: Node,
            text: &'static str,
            change: &'static str,
        }
        let node = |op_type: &str, inputs: &[&str]| Node::new(op_type, "n", inputs, &["y"]);
        let float = AttributeValue::Float;
        let cases = [
            Case {
                opset: 7,
                target: 13,
                node: node("Clip", &["x"])
                    .with_attribute("min", float(0.0))
                    .with_attribute("max", float(6.0)),
                text: "y_min = float32 [] [0.0]\ny_max = float32 [] [6.0]\nClip(x, y_min, y_max){} -> y",
                change: "min and max became inputs",
            },
            Case {
                opset: 10,
                target: 13,
                node: node("Clip", &["x"]).with_attribute("max", float(6.0)),
                text: "y_max = float32 [] [6.0]\nClip(x, , y_max){} -> y",
                change: "max became an input",
            },
            Case {
                opset: 7,
                target: 13,
                node: node("BatchNormalization", &["x", "s", "b", "m", "v"])
                    .with_attribute("spatial", AttributeValue::Int(1)),
                text: "BatchNormalization(x, s, b, m, v){} -> y",
                change: "spatial was dropped, it is always 1",
            },
            Case {
                opset: 11,
                target: 13,
                node: node("Dropout", &["x"]).with_attribute("ratio", float(0.5)),
                text: "y_ratio = float32 [] [0.5]\nDropout(x, y_ratio){} -> y",
                change: "ratio became an input",
            },
            Case {
                opset: 9,
                target: 13,
                node: node("Pad", &["x"])
                    .with_attribute("pads", ints(&[0, 1]))
                    .with_attribute("value", float(2.0)),
                text: "y_pads = int64 [2] [0.0, 1.0]\ny_value = float32 [] [2.0]\nPad(x, y_pads, y_value){} -> y",
                change: "pads and value became inputs",
            },
            Case {
                opset: 9,
                target: 13,
                node: node("Slice", &["x"])
                    .with_attribute("starts", ints(&[1]))
                    .with_attribute("ends", ints(&[2])),
                text: "y_starts = int64 [1] [1.0]\ny_ends = int64 [1] [2.0]\nSlice(x, y_starts, y_ends){} -> y",
                change: "starts, ends and axes became inputs",
            },
            Case {
                opset: 9,
                target: 13,
                node: node("TopK", &["x"]).with_attribute("k", AttributeValue::Int(3)),
                text: "y_k = int64 [1] [3.0]\nTopK(x, y_k){} -> y",
                change: "k became an input",
            },
            Case {
                opset: 11,
                target: 13,
                node: node("Squeeze", &["x"]).with_attribute("axes", ints(&[-1])),
                text: "y_axes = int64 [1] [-1.0]\nSqueeze(x, y_axes){} -> y",
                change: "axes became an input",
            },
            Case {
                opset: 12,
                target: 13,
                node: node("Split", &["x"]).with_attribute("split", ints(&[2])),
                text: "y_split = int64 [1] [2.0]\nSplit(x, y_split){} -> y",
                change: "split became an input",
            },
            Case {
                opset: 13,
                target: 18,
                node: node("Split", &["x"]),
                text: "Split(x){num_outputs=1} -> y",
                change: "num_outputs 1 became explicit",
            },
            Case {
                opset: 13,
                target: 18,
                node: node("ReduceMean", &["x"]).with_attribute("axes", ints(&[1])),
                text: "y_axes = int64 [1] [1.0]\nReduceMean(x, y_axes){} -> y",
                change: "axes became an input",
            },
            Case {
                opset: 10,
                target: 16,
                node: node("RoiAlign", &["x", "r", "b"]),
                text: "RoiAlign(x, r, b){coordinate_transformation_mode=output_half_pixel} -> y",
                change: "coordinate_transformation_mode output_half_pixel became explicit",
            },
            Case {
                opset: 16,
                target: 20,
                node: node("GridSample", &["x", "g"])
                    .with_attribute("mode", AttributeValue::String(b"bilinear".to_vec())),
                text: "GridSample(x, g){mode=linear} -> y",
                change: "the mode is called linear",
            },
            Case {
                opset: 9,
                target: 13,
                node: node("Scatter", &["x", "i", "u"]),
                text: "ScatterElements(x, i, u){} -> y",
                change: "it is called ScatterElements",
            },
            Case {
                opset: 12,
                target: 13,
                node: node("Resize", &["x", "roi", "none", "sizes"]),
                text: "Resize(x, roi, , sizes){} -> y",
                change: "the empty scales were left out",
            },
            Case {
                opset: 7,
                target: 13,
                node: node("Upsample", &["x"])
                    .with_attribute("scales", AttributeValue::Floats(vec![1.0, 1.0, 2.0, 2.0])),
                text: "y_scales = float32 [4] [1.0, 1.0, 2.0, 2.0]\nResize(x, , y_scales){nearest_mode=floor, \
                       coordinate_transformation_mode=asymmetric} -> y",
                change: "it became a Resize with asymmetric coordinates",
            },
        ];
        for case in cases {
            let op_type = case.node.op_type.clone();
            let mut model = model(case.opset, DType::Float32, Some(&[1, 4]), vec![case.node]);
            let changes = upgrade_opset(&mut model, case.target).unwrap();
            assert_eq!(text(&model.graph), case.text);
            assert_eq!(model.opset(), case.target);
            let change = format!("node \"n\" ({op_type}): {}", case.change);
            assert!(changes.contains(&change), "{changes:?}");
        }
    }

    #[test]
    fn softmax_keeps_its_meaning() {
        struct Case {
            axis: Option<i64>,
            shape: Option<&'static [i64]>,
            text: &'static str,
        }
        let wrapped = "Shape(x){} -> y_shape\nFlatten(x){axis=1} -> y_flattened\nSoftmax(y_flattened){axis=1} -> \
                       y_flattened_result\nReshape(y_flattened_result, y_shape){} -> y";
        let cases = [
            (None, Some(&[2, 3][..]), "Softmax(x){axis=1} -> y"),
            (Some(-1), None, "Softmax(x){axis=-1} -> y"),
            (Some(2), Some(&[2, 3, 4]), "Softmax(x){axis=2} -> y"),
            (None, Some(&[2, 3, 1, 1]), "Softmax(x){axis=1} -> y"),
            (None, Some(&[2, 3, 4]), wrapped),
            (None, None, wrapped),
        ]
        .map(|(axis, shape, text)| Case { axis, shape, text });
        for case in cases {
            let mut node = Node::new("Softmax", "n", &["x"], &["y"]);
            if let Some(axis) = case.axis {
                node = node.with_attribute("axis", AttributeValue::Int(axis));
            }
            let mut model = model(11, DType::Float32, case.shape, vec![node]);
            upgrade_opset(&mut model, 13).unwrap();
            assert_eq!(text(&model.graph), case.text, "{:?} {:?}", case.axis, case.shape);
        }
    }

    #[test]
    fn bounds_have_the_dtype_of_the_value() {
        let nodes = vec![
            Node::new("Relu", "", &["x"], &["a"]),
            Node::new("Clip", "", &["a"], &["y"]).with_attribute("min", AttributeValue::Float(0.5)),
        ];
        let mut model = model(9, DType::Float16, None, nodes);
        upgrade_opset(&mut model, 13).unwrap();
        assert_eq!(
            model.graph.initializer("y_min").map(Constant::dtype),
            Some(DType::Float16)
        );
    }

    #[test]
    fn subgraphs_are_raised_and_new_names_are_new() {
        let branch = Graph {
            nodes: vec![Node::new("Squeeze", "", &["x"], &["y"]).with_attribute("axes", ints(&[0]))],
            ..Graph::default()
        };
        let node = Node::new("If", "", &["y_axes"], &["z"])
            .with_attribute("then_branch", AttributeValue::Graph(Box::new(branch)));
        let mut model = model(11, DType::Float32, None, vec![node]);
        upgrade_opset(&mut model, 13).unwrap();
        let (_, branch) = model.graph.nodes[0].subgraphs().next().unwrap();
        assert_eq!(
            text(branch),
            "y_axes_2 = int64 [1] [0.0]\nSqueeze(x, y_axes_2){} -> y"
        );
    }

    #[test]
    fn old_files_get_a_newer_format() {
        let mut model = model(8, DType::Float32, None, vec![]);
        model.ir_version = 3;
        model.graph.set_initializer("x", Tensor::scalar(1_f32));
        let changes = upgrade_opset(&mut model, 15).unwrap();
        assert_eq!(
            changes,
            [
                "opset 8 became 15",
                "IR version 3 became 8",
                "initializers are no longer listed among the inputs"
            ]
        );
        assert!(model.graph.inputs.is_empty());
        assert_eq!(upgrade_opset(&mut model, 13), Ok(vec![]));
    }

    #[test]
    fn every_refusal_is_listed_and_nothing_is_changed() {
        let nodes = vec![
            Node::new("Clip", "c", &["unknown"], &["a"]).with_attribute("min", AttributeValue::Float(0.0)),
            Node::new("Upsample", "u", &["a", "computed"], &["b"]),
            Node::new("BatchNormalization", "bn", &["b"], &["y", "mean"]),
            Node::new("ConvTranspose", "t", &["y"], &["z"])
                .with_attribute("auto_pad", AttributeValue::String(b"SAME_UPPER".to_vec())),
        ];
        let before = model(9, DType::Float32, None, nodes);
        let mut model = before.clone();
        let error = upgrade_opset(&mut model, 14).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model cannot be raised from opset 9 to 14: node \"c\" (Clip): the dtype of input \"unknown\" is not \
             known: run shape inference on the model first; node \"u\" (Upsample): the rounding of nearest depends on \
             the scales, which are no constant; node \"bn\" (BatchNormalization): it has the outputs of a training \
             run: export the model for inference; node \"t\" (ConvTranspose): pads that are derived from the output \
             shape became other pads: give them as `pads`"
        );
        assert_eq!(model, before);
    }

    #[test]
    fn versions_out_of_range_are_refused() {
        let mut old = model(6, DType::Float32, None, vec![]);
        assert_eq!(
            upgrade_opset(&mut old, 13).unwrap_err().to_string(),
            "the model uses opset 6, expected at least 7: export it again"
        );
        assert_eq!(
            upgrade_opset(&mut old, 22).unwrap_err().to_string(),
            "a model cannot be raised to opset 22, expected 13 to 21"
        );
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(STEPS.is_sorted_by_key(|(op_type, version, _)| (*op_type, *version)));
    }
}

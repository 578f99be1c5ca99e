//! Raises a model to a newer version of the default operator set, without changing what it computes.
//!
//! One table lists the versions at which the meaning or the form of an operator changed; an operator that is not in it
//! means in every newer version what it meant before. Whatever cannot be expressed in the newer version is refused,
//! all places at once, and the model stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use half::{bf16, f16};
use qloupe_ir::{Attribute, AttributeValue, Constant, Dim, Graph, Initializer, Model, Node, TensorType};
use qloupe_tensor::{DType, Tensor};

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

/// A change of an operator: (operator, version, what to do with a node of an older version).
type Step = (
    &'static str,
    i64,
    fn(&mut Rewrite<'_>) -> Result<Option<String>, String>,
);

/// Every change of form or meaning from opset 7 to 21, by operator and version.
const STEPS: &[Step] = &[
    ("BatchNormalization", 9, drop_spatial),
    ("BatchNormalization", 14, drop_training_outputs),
    ("Clip", 11, clip_bounds_to_inputs),
    ("ConvTranspose", 11, refuse_automatic_pads),
    ("DFT", 20, |_| {
        refuse("axis became an input: export the model again with opset 20")
    }),
    ("Dropout", 10, refuse_float_mask),
    ("Dropout", 12, dropout_ratio_to_input),
    ("GridSample", 20, rename_grid_modes),
    ("GroupNormalization", 21, |_| {
        refuse("scale and bias became per channel: export the model again with opset 21")
    }),
    ("Hardmax", 13, normalize_one_axis),
    ("LogSoftmax", 13, normalize_one_axis),
    ("Pad", 11, pads_to_inputs),
    ("ReduceL1", 18, axes_to_input),
    ("ReduceL2", 18, axes_to_input),
    ("ReduceLogSum", 18, axes_to_input),
    ("ReduceLogSumExp", 18, axes_to_input),
    ("ReduceMax", 18, axes_to_input),
    ("ReduceMean", 18, axes_to_input),
    ("ReduceMin", 18, axes_to_input),
    ("ReduceProd", 18, axes_to_input),
    ("ReduceSum", 13, axes_to_input),
    ("ReduceSumSquare", 18, axes_to_input),
    ("Resize", 11, old_resize_to_resize),
    ("Resize", 13, drop_empty_scales),
    ("RoiAlign", 16, keep_roi_coordinates),
    ("Scan", 9, |_| {
        refuse("its inputs and axes changed: export the model again with opset 9 or newer")
    }),
    ("Scatter", 11, rename_scatter),
    ("Slice", 10, slice_to_inputs),
    ("Softmax", 13, normalize_one_axis),
    ("Split", 13, |rewrite| rewrite.ints_to_input("split", 1)),
    ("Split", 18, count_split_outputs),
    ("Squeeze", 13, axes_to_input),
    ("TopK", 10, top_k_to_input),
    ("Unsqueeze", 13, axes_to_input),
    ("Upsample", 9, upsample_scales_to_input),
    ("Upsample", 10, old_resize_to_resize),
];

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

/// What is known about the values of a graph before it is rewritten.
struct Facts<'a> {
    declared: BTreeMap<String, TensorType>,
    constants: BTreeMap<String, Constant>,
    producers: BTreeMap<String, Node>,
    outer: Option<&'a Facts<'a>>,
}

/// How far back through producers a rank is looked for.
const MAX_TRACE: usize = 64;

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
    fn new(graph: &Graph, outer: Option<&'a Facts<'a>>) -> Self {
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

    fn constant(&self, name: &str) -> Option<Tensor> {
        self.find(|facts| facts.constants.get(name).cloned())?
            .tensor()
            .ok()
    }

    fn producer(&self, name: &str) -> Option<Node> {
        self.find(|facts| facts.producers.get(name).cloned())
    }

    fn shape(&self, name: &str) -> Option<Vec<Dim>> {
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

    fn rank(&self, name: &str, n_left: usize) -> Option<usize> {
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
    fn float_dtype(&self, name: &str) -> Option<DType> {
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

/// One node on its way to the newer version.
struct Rewrite<'a> {
    node: Node,
    facts: &'a Facts<'a>,
    names: &'a mut BTreeSet<String>,
    constants: Vec<Initializer>,
    before: Vec<Node>,
    after: Vec<Node>,
}

impl Rewrite<'_> {
    fn take(&mut self, name: &str) -> Option<AttributeValue> {
        let idx = self.node.attributes.iter().position(|a| a.name == name)?;
        Some(self.node.attributes.remove(idx).value)
    }

    fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(AttributeValue::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(format!("attribute \"{name}\" is no list of integers")),
        }
    }

    fn take_float(&mut self, name: &str) -> Result<Option<f32>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(AttributeValue::Float(value)) => Ok(Some(value)),
            Some(_) => Err(format!("attribute \"{name}\" is no float")),
        }
    }

    fn set(&mut self, name: &str, value: AttributeValue) {
        self.take(name);
        self.node.attributes.push(Attribute::new(name, value));
    }

    fn set_string(&mut self, name: &str, value: &str) {
        self.set(name, AttributeValue::String(value.as_bytes().to_vec()));
    }

    /// A name that no value of the model has.
    fn fresh_name(&mut self, role: &str) -> String {
        let output = self.node.output(0).unwrap_or(&self.node.name);
        let base = format!("{output}_{role}");
        let mut name = base.clone();
        let mut idx = 1;
        while !self.names.insert(name.clone()) {
            idx += 1;
            name = format!("{base}_{idx}");
        }
        name
    }

    fn set_input(&mut self, idx: usize, name: String) {
        let n_inputs = self.node.inputs.len().max(idx + 1);
        self.node.inputs.resize(n_inputs, String::new());
        self.node.inputs[idx] = name;
    }

    fn set_constant(&mut self, idx: usize, role: &str, tensor: Tensor) {
        let name = self.fresh_name(role);
        self.constants.push(Initializer {
            name: name.clone(),
            value: tensor.into(),
        });
        self.set_input(idx, name);
    }

    fn ints_to_input(&mut self, name: &str, idx: usize) -> Result<Option<String>, String> {
        let Some(values) = self.take_ints(name)? else {
            return Ok(None);
        };
        self.set_constant(idx, name, Tensor::vector(values));
        Ok(Some(format!("{name} became an input")))
    }

    /// A rank-0 tensor of the dtype of the first input.
    fn scalar(&self, value: f32) -> Result<Tensor, String> {
        let input = self.node.input(0).unwrap_or_default();
        let dtype = self.facts.float_dtype(input);
        match dtype {
            Some(DType::Float32) => Ok(Tensor::scalar(value)),
            Some(DType::Float64) => Ok(Tensor::scalar(f64::from(value))),
            Some(DType::Float16) => Ok(Tensor::scalar(f16::from_f32(value))),
            Some(DType::BFloat16) => Ok(Tensor::scalar(bf16::from_f32(value))),
            _ => Err(format!(
                "the dtype of input \"{input}\" is not known: run shape inference on the model first"
            )),
        }
    }

    /// Drops outputs after the first that nobody asked for; false when one is named.
    fn drop_unused_outputs(&mut self) -> bool {
        let is_used = self.node.outputs.iter().skip(1).any(|name| !name.is_empty());
        if !is_used {
            self.node.outputs.truncate(1);
        }
        !is_used
    }
}

fn refuse(reason: &str) -> Result<Option<String>, String> {
    Err(reason.to_owned())
}

fn axes_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.ints_to_input("axes", 1)
}

fn drop_spatial(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("spatial") {
        None => Ok(None),
        Some(AttributeValue::Int(1)) => Ok(Some("spatial was dropped, it is always 1".to_owned())),
        Some(_) => refuse("spatial 0 does not exist any more: export the model again with opset 9 or newer"),
    }
}

fn drop_training_outputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.drop_unused_outputs() {
        return Ok(None);
    }
    refuse("it has the outputs of a training run: export the model for inference")
}

fn refuse_float_mask(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.drop_unused_outputs() {
        return Ok(None);
    }
    refuse("its mask became a bool: export the model for inference")
}

fn dropout_ratio_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let Some(ratio) = rewrite.take_float("ratio")? else {
        return Ok(None);
    };
    rewrite.set_constant(1, "ratio", Tensor::scalar(ratio));
    Ok(Some("ratio became an input".to_owned()))
}

fn clip_bounds_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let mut moved = Vec::new();
    for (idx, name) in [(1, "min"), (2, "max")] {
        if let Some(bound) = rewrite.take_float(name)? {
            let bound = rewrite.scalar(bound)?;
            rewrite.set_constant(idx, name, bound);
            moved.push(name);
        }
    }
    Ok(match moved.as_slice() {
        [] => None,
        [one] => Some(format!("{one} became an input")),
        _ => Some("min and max became inputs".to_owned()),
    })
}

fn refuse_automatic_pads(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let is_same = rewrite
        .node
        .string("auto_pad")
        .is_some_and(|pad| pad.starts_with("SAME_"));
    if is_same || rewrite.node.ints("output_shape").is_some() {
        return refuse("pads that are derived from the output shape became other pads: give them as `pads`");
    }
    Ok(None)
}

fn rename_grid_modes(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let new = match rewrite.node.string("mode") {
        Some("bilinear") => "linear",
        Some("bicubic") => "cubic",
        _ => return Ok(None),
    };
    rewrite.set_string("mode", new);
    Ok(Some(format!("the mode is called {new}")))
}

fn keep_roi_coordinates(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.set_string("coordinate_transformation_mode", "output_half_pixel");
    Ok(Some(
        "coordinate_transformation_mode output_half_pixel became explicit".to_owned(),
    ))
}

fn rename_scatter(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.node.op_type = "ScatterElements".to_owned();
    Ok(Some("it is called ScatterElements".to_owned()))
}

fn pads_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.ints_to_input("pads", 1)?;
    match rewrite.take_float("value")? {
        Some(value) if value != 0.0 => {
            let value = rewrite.scalar(value)?;
            rewrite.set_constant(2, "value", value);
            Ok(Some("pads and value became inputs".to_owned()))
        }
        _ => Ok(Some("pads became an input".to_owned())),
    }
}

fn slice_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    for (idx, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        rewrite.ints_to_input(name, idx)?;
    }
    Ok(Some("starts, ends and axes became inputs".to_owned()))
}

fn top_k_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("k") {
        Some(AttributeValue::Int(k)) => {
            rewrite.set_constant(1, "k", Tensor::vector(vec![k]));
            Ok(Some("k became an input".to_owned()))
        }
        _ => refuse("attribute \"k\" is absent, expected an integer"),
    }
}

fn count_split_outputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.node.input(1).is_some() {
        return Ok(None);
    }
    let n_outputs = i64::try_from(rewrite.node.outputs.len()).unwrap_or(i64::MAX);
    rewrite.set("num_outputs", AttributeValue::Int(n_outputs));
    Ok(Some(format!("num_outputs {n_outputs} became explicit")))
}

fn upsample_scales_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("scales") {
        Some(AttributeValue::Floats(scales)) => {
            rewrite.set_constant(1, "scales", Tensor::vector(scales));
            Ok(Some("scales became an input".to_owned()))
        }
        _ => refuse("attribute \"scales\" is absent, expected a list of floats"),
    }
}

/// `Upsample`, and `Resize` of opset 10, sample at `x / scale`; nearest rounds down, but up along an axis that shrinks.
fn old_resize_to_resize(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let scales = rewrite.node.input(1).unwrap_or_default().to_owned();
    if rewrite.node.string("mode").unwrap_or("nearest") == "nearest" {
        let own = rewrite.constants.iter().find(|i| i.name == scales);
        let known = match own {
            Some(initializer) => initializer.value.tensor().ok(),
            None => rewrite.facts.constant(&scales),
        };
        let factors = known.and_then(|tensor| tensor.into_vec::<f32>().ok());
        let Some(factors) = factors else {
            return refuse("the rounding of nearest depends on the scales, which are no constant");
        };
        let nearest_mode = if factors.iter().all(|&factor| factor >= 1.0) {
            "floor"
        } else if factors.iter().all(|&factor| factor <= 1.0) {
            "ceil"
        } else {
            return refuse("nearest that grows one axis and shrinks another rounds in two ways");
        };
        rewrite.set_string("nearest_mode", nearest_mode);
    }
    rewrite.set_string("coordinate_transformation_mode", "asymmetric");
    let was = std::mem::replace(&mut rewrite.node.op_type, "Resize".to_owned());
    rewrite.set_input(1, String::new());
    rewrite.set_input(2, scales);
    Ok(Some(if was == "Resize" {
        "asymmetric coordinates became explicit".to_owned()
    } else {
        "it became a Resize with asymmetric coordinates".to_owned()
    }))
}

/// Opset 11 says "no scales" with an empty tensor, opset 13 by leaving the input out.
fn drop_empty_scales(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let mode = rewrite.node.string("coordinate_transformation_mode");
    if mode == Some("tf_half_pixel_for_nn") {
        return refuse("tf_half_pixel_for_nn does not exist any more: export the model again with opset 13");
    }
    if rewrite.node.input(3).is_none() || rewrite.node.input(2).is_none() {
        return Ok(None);
    }
    rewrite.set_input(2, String::new());
    Ok(Some("the empty scales were left out".to_owned()))
}

/// Before opset 13, Softmax, LogSoftmax and Hardmax work on all axes from `axis` (default 1) on, taken as one.
fn normalize_one_axis(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let axis = rewrite.node.int("axis").unwrap_or(1);
    let input = rewrite.node.input(0).unwrap_or_default().to_owned();
    let rank = rewrite.facts.rank(&input, MAX_TRACE);
    let rank = rank.and_then(|rank| i64::try_from(rank).ok());
    let from_front = match rank {
        Some(rank) if axis < 0 => Some(axis + rank),
        _ => Some(axis).filter(|axis| *axis >= 0),
    };
    let is_last = axis == -1 || rank.is_some_and(|rank| from_front == Some(rank - 1));
    let rest_is_one = || {
        let first = usize::try_from(from_front?).ok()?.checked_add(1)?;
        let shape = rewrite.facts.shape(&input)?;
        Some(shape.get(first..)?.iter().all(|dim| *dim == Dim::Known(1)))
    };
    if is_last || rest_is_one() == Some(true) {
        let was_explicit = rewrite.node.int("axis").is_some();
        rewrite.set("axis", AttributeValue::Int(axis));
        return Ok((!was_explicit).then(|| format!("axis {axis} became explicit")));
    }
    let [shape, flat, flat_result] =
        ["shape", "flattened", "flattened_result"].map(|role| rewrite.fresh_name(role));
    let output = rewrite.node.output(0).unwrap_or_default().to_owned();
    let label = rewrite.node.label().to_owned();
    let flatten = Node::new("Flatten", &format!("{label}_flatten"), &[&input], &[&flat]);
    rewrite.before = vec![
        Node::new("Shape", &format!("{label}_shape"), &[&input], &[&shape]),
        flatten.with_attribute("axis", AttributeValue::Int(axis)),
    ];
    rewrite.after = vec![Node::new(
        "Reshape",
        &format!("{label}_reshape"),
        &[&flat_result, &shape],
        &[&output],
    )];
    rewrite.set_input(0, flat);
    rewrite.node.outputs = vec![flat_result];
    rewrite.set("axis", AttributeValue::Int(1));
    Ok(Some(format!(
        "it works on all axes from {axis} on, which Flatten and Reshape around it make one"
    )))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Extra, ValueInfo};

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

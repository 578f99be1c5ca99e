//! Converts a float32 model to float16: weights, inner values and declared types.
//!
//! Network inputs and outputs keep float32, with a `Cast` at the boundary. What the ONNX specification fixes to
//! float32 stays float32; nothing is clipped to make it fit. One table lists those inputs and outputs; the rest of
//! the operators take float16 wherever they took float32.

mod error;
mod float_only;
mod part;

use std::collections::{BTreeMap, BTreeSet};

use half::f16;
use qloupe_exec::Program;
use qloupe_ir::{Attribute, AttributeValue, Constant, Graph, Initializer, Model, Node, Topology, ValueType};
use qloupe_tensor::{DType, Tensor};

use super::fold_batch_norm::fold_batch_norm;
use crate::shapes;
pub use error::{ConvertError, Overflow};
use float_only::{Positions, float_inputs, float_outputs};
use part::{Part, Role, Scope, Uses, count_uses};

/// The oldest operator set that can be converted: `Cast` names its type by number.
const MIN_OPSET: i64 = 7;

/// The numbers of the types in the ONNX file format.
const ONNX_FLOAT: i64 = 1;
const ONNX_FLOAT16: i64 = 10;

/// Attributes that choose the type of an output, with what their absence means.
const DTYPE_ATTRIBUTES: &[(&str, &str, WhenAbsent)] = &[
    ("Bernoulli", "dtype", WhenAbsent::LikeInput),
    ("BlackmanWindow", "output_datatype", WhenAbsent::Float32),
    ("Cast", "to", WhenAbsent::LikeInput),
    ("DequantizeLinear", "output_dtype", WhenAbsent::LikeInput),
    ("EyeLike", "dtype", WhenAbsent::LikeInput),
    ("HammingWindow", "output_datatype", WhenAbsent::Float32),
    ("HannWindow", "output_datatype", WhenAbsent::Float32),
    ("MelWeightMatrix", "output_datatype", WhenAbsent::Float32),
    ("RandomNormal", "dtype", WhenAbsent::Float32),
    ("RandomNormalLike", "dtype", WhenAbsent::LikeInput),
    ("RandomUniform", "dtype", WhenAbsent::Float32),
    ("RandomUniformLike", "dtype", WhenAbsent::LikeInput),
    ("SequenceEmpty", "dtype", WhenAbsent::Float32),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenAbsent {
    LikeInput,
    Float32,
}

/// Converts a model to float16.
///
/// Float32 tensors are rounded to the nearest float16, ties to even; tiny values become 0 and infinities stay. Names
/// of inputs and outputs stay; behind an input `x` stands `x_fp16`, before an output `y` stands `y_fp16`. A bound of
/// `Clip` beyond float16 becomes infinite, which bounds the same float16 values. Where tensors do not fit, batch
/// normalizations are folded into the convolutions before them first: their statistics are what overflows.
///
/// # Errors
/// [`ConvertError`]: every part without a float16 form, or every tensor with finite values beyond float16.
pub fn convert_fp16(model: &Model) -> Result<Model, ConvertError> {
    let none = BTreeSet::new();
    let converted = convert_fp16_except(model, &none);
    match &converted {
        Err(ConvertError::Overflow(_)) => {
            folded(model).map_or(converted, |folded| convert_fp16_except(&folded, &none))
        }
        _ => converted,
    }
}

/// Converts a model to float16, but for nodes with an output in `in_float`: they read and write float32, and so does what
/// reads a network input that is in it. Nothing is folded.
///
/// # Errors
/// As [`convert_fp16`].
pub fn convert_fp16_except(model: &Model, in_float: &BTreeSet<String>) -> Result<Model, ConvertError> {
    if model.opset() < MIN_OPSET {
        return Err(ConvertError::Opset { opset: model.opset() });
    }
    convert(model, in_float)
}

/// The model with folded batch normalizations, if it runs here and has any.
fn folded(model: &Model) -> Option<Model> {
    let program = Program::new(model).ok()?;
    let topology = Topology::new(&model.graph).ok()?;
    let (graph, fused) = fold_batch_norm(&program, &topology).ok()?;
    (!fused.is_empty()).then(|| Model {
        graph,
        ..model.clone()
    })
}

fn convert(model: &Model, in_float: &BTreeSet<String>) -> Result<Model, ConvertError> {
    let mut conversion = Conversion {
        in_float,
        opset: model.opset(),
        inferred: inferred_dtypes(model),
        names: BTreeSet::new(),
        refusals: Vec::new(),
        overflows: Vec::new(),
    };
    for function in &model.functions {
        let reason = format!(
            "function \"{}\": functions of a model are not converted, inline them",
            function.name
        );
        conversion.refusals.push(reason);
    }
    collect_names(&model.graph, &mut conversion.names);
    let graph = conversion.convert_graph(&model.graph, &Scope::new(), Role::Network)?;
    if !conversion.refusals.is_empty() {
        return Err(ConvertError::Refused(conversion.refusals));
    }
    if !conversion.overflows.is_empty() {
        return Err(ConvertError::Overflow(conversion.overflows));
    }
    Ok(Model {
        graph,
        ..model.clone()
    })
}

fn inferred_dtypes(model: &Model) -> BTreeMap<String, DType> {
    let facts = shapes::infer(model, &BTreeMap::new())
        .map(|inference| inference.facts)
        .unwrap_or_default();
    facts
        .into_iter()
        .filter_map(|(name, fact)| Some((name, fact.dtype?)))
        .collect()
}

fn collect_names(graph: &Graph, names: &mut BTreeSet<String>) {
    names.extend(graph.inputs.iter().map(|i| i.name.clone()));
    names.extend(graph.initializers.iter().map(|i| i.name.clone()));
    for node in &graph.nodes {
        names.extend(node.outputs.iter().cloned());
        node.subgraphs()
            .for_each(|(_, subgraph)| collect_names(subgraph, names));
    }
}

struct Conversion<'a> {
    /// Outputs of nodes that stay float32, and network inputs that are read in float32.
    in_float: &'a BTreeSet<String>,
    opset: i64,
    inferred: BTreeMap<String, DType>,
    /// Every name of the model, so that new ones are new.
    names: BTreeSet<String>,
    refusals: Vec<String>,
    overflows: Vec<Overflow>,
}

impl Conversion<'_> {
    /// True for a node that the caller keeps in float32.
    fn keeps_node(&self, node: &Node) -> bool {
        node.outputs
            .iter()
            .any(|name| !name.is_empty() && self.in_float.contains(name))
    }

    /// The inputs of a node that are read in float32.
    fn float_inputs(&self, node: &Node) -> Positions {
        if self.keeps_node(node) {
            Positions::All
        } else {
            float_inputs(node, self.opset)
        }
    }

    /// The outputs of a node that are written in float32.
    fn float_outputs(&self, node: &Node) -> Positions {
        if self.keeps_node(node) {
            Positions::All
        } else {
            float_outputs(node, self.opset)
        }
    }

    fn convert_graph(&mut self, graph: &Graph, outer: &Scope, role: Role) -> Result<Graph, ConvertError> {
        let mut uses = BTreeMap::new();
        count_uses(graph, &|node| self.float_inputs(node), &mut uses);
        if role == Role::Subgraph {
            let returned = graph.outputs.iter().map(|o| {
                (
                    o.name.as_str(),
                    Uses {
                        by_half: true,
                        beyond_bounds: true,
                        ..Uses::default()
                    },
                )
            });
            uses.extend(returned);
        }
        let outputs: BTreeSet<&str> = match role {
            Role::Network => graph.output_names().collect(),
            Role::Subgraph => BTreeSet::new(),
        };
        let stored: BTreeSet<&str> = graph.initializers.iter().map(|i| i.name.as_str()).collect();
        let mut part = Part {
            graph,
            role,
            uses,
            outputs,
            scope: outer.clone(),
            nodes: Vec::new(),
        };
        for input in graph.inputs.iter().filter(|i| !stored.contains(i.name.as_str())) {
            self.enter(&mut part, &input.name);
        }
        let mut initializers = Vec::with_capacity(graph.initializers.len());
        for Initializer { name, value } in &graph.initializers {
            for (name, value) in self.constant_forms(&mut part, name, value)? {
                initializers.push(Initializer { name, value });
            }
        }
        for node in &graph.nodes {
            match constant_of(node) {
                Some(value) => self.convert_constant(&mut part, node, &value)?,
                None => self.convert_node(&mut part, node)?,
            }
        }
        Ok(self.finish(part, initializers, &stored))
    }

    /// The declared types follow the values.
    fn finish(&mut self, part: Part<'_>, initializers: Vec<Initializer>, stored: &BTreeSet<&str>) -> Graph {
        let Part {
            graph,
            role,
            scope,
            nodes,
            ..
        } = part;
        let mut new = Graph {
            nodes,
            initializers,
            ..graph.clone()
        };
        for input in &mut new.inputs {
            let follows = role == Role::Subgraph || stored.contains(input.name.as_str());
            if follows && scope.get(&input.name).is_some_and(|s| s.half == input.name) {
                declare_half(&mut input.ty);
            }
        }
        if role == Role::Subgraph {
            for output in &mut new.outputs {
                if let Some(spelling) = scope.get(&output.name) {
                    output.name.clone_from(&spelling.half);
                }
                declare_half(&mut output.ty);
            }
        }
        for info in new.inputs.iter().chain(&new.outputs) {
            // An exporter that does not know a type writes an empty one.
            if let Some(ValueType::Other(bytes)) = &info.ty
                && !bytes.is_empty()
            {
                self.refusals
                    .push(format!("value \"{}\": only tensors can be converted", info.name));
            }
        }
        new.value_info.retain(|info| info.tensor_type().is_some());
        for info in &mut new.value_info {
            if scope.get(&info.name).is_some_and(|s| s.half == info.name) {
                declare_half(&mut info.ty);
            }
        }
        new
    }

    fn enter(&mut self, part: &mut Part<'_>, name: &str) {
        let dtype = self.dtype(part, name);
        match (part.role, dtype) {
            (Role::Network, None) => self
                .refusals
                .push(format!("input \"{name}\": its dtype is not declared")),
            (Role::Network, Some(DType::Float32)) => {
                let half = self.fresh(name, "fp16");
                // Where the caller chooses, an input that is not named is float16 for everybody.
                let is_float = self.in_float.is_empty() || self.in_float.contains(name);
                if part.uses_of(name).by_half || !is_float {
                    part.nodes.push(cast(name, &half, ONNX_FLOAT16));
                }
                part.spell(name, dtype, half, is_float.then(|| name.to_owned()));
            }
            _ => part.spell(name, dtype, name.to_owned(), None),
        }
    }

    /// A constant in float16, in float32 or in both, as its readers need it.
    fn constant_forms(
        &mut self,
        part: &mut Part<'_>,
        name: &str,
        value: &Constant,
    ) -> Result<Vec<(String, Constant)>, ConvertError> {
        if value.dtype() != DType::Float32 {
            part.spell(name, Some(value.dtype()), name.to_owned(), None);
            return Ok(vec![(name.to_owned(), value.clone())]);
        }
        let uses = part.uses_of(name);
        let is_output = part.outputs.contains(name);
        let by_float = uses.by_float || is_output;
        let by_half = uses.by_half || !by_float;
        let half = if is_output {
            self.fresh(name, "fp16")
        } else {
            name.to_owned()
        };
        let float = if is_output || !by_half {
            name.to_owned()
        } else {
            self.fresh(name, "fp32")
        };
        part.spell(
            name,
            Some(DType::Float32),
            half.clone(),
            by_float.then(|| float.clone()),
        );
        let mut forms = Vec::new();
        if by_half {
            forms.push((
                half,
                self.half_of(name, value, !uses.beyond_bounds && uses.by_half)?,
            ));
        }
        if by_float {
            forms.push((float, value.clone()));
        }
        Ok(forms)
    }

    fn half_of(&mut self, name: &str, value: &Constant, is_bound: bool) -> Result<Constant, ConvertError> {
        let failed = |source| ConvertError::Tensor {
            name: name.to_owned(),
            source,
        };
        let tensor = value.tensor().map_err(failed)?;
        let values = tensor.as_slice::<f32>().unwrap_or_default();
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let too_large = values
            .iter()
            .zip(&halves)
            .filter(|(v, h)| v.is_finite() && h.is_infinite())
            .map(|(v, _)| v.abs());
        let (count, max_abs) = too_large.fold((0, 0.0_f32), |(n, max), v| (n + 1, max.max(v)));
        if count > 0 && !is_bound {
            self.overflows.push(Overflow {
                tensor: name.to_owned(),
                count,
                len: values.len(),
                max_abs,
            });
        }
        let converted = Tensor::new(tensor.shape(), halves).expect("invariant: one half for each element");
        Ok(converted.into())
    }

    fn convert_constant(
        &mut self,
        part: &mut Part<'_>,
        node: &Node,
        value: &Constant,
    ) -> Result<(), ConvertError> {
        let is_read = |name: &&str| part.uses.contains_key(name) || part.outputs.contains(name);
        let Some(output) = node.output(0).filter(is_read) else {
            return Ok(());
        };
        if value.dtype() != DType::Float32 {
            part.spell(output, Some(value.dtype()), output.to_owned(), None);
            part.nodes.push(node.clone());
            return Ok(());
        }
        for (name, value) in self.constant_forms(part, output, value)? {
            let mut new = node.clone();
            if new.outputs[0] != name {
                new.name = format!("{}_{name}", node.name);
            }
            new.outputs = vec![name];
            new.attributes = vec![Attribute::new("value", AttributeValue::Tensor(value))];
            part.nodes.push(new);
        }
        Ok(())
    }

    fn convert_node(&mut self, part: &mut Part<'_>, node: &Node) -> Result<(), ConvertError> {
        let mut new = node.clone();
        let float_positions = self.float_inputs(node);
        for (idx, name) in node
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            new.inputs[idx] = if float_positions.contain(idx) {
                self.float_name(part, node, name)
            } else {
                part.scope
                    .get(name)
                    .map_or_else(|| name.clone(), |s| s.half.clone())
            };
        }
        let is_foreign = float_positions == Positions::All;
        if !is_foreign && !part.keeps_float(node) {
            self.convert_attributes(&mut new)?;
        }
        for attribute in &mut new.attributes {
            match &mut attribute.value {
                AttributeValue::Graph(_) | AttributeValue::Graphs(_) if is_foreign => {
                    let what = if self.keeps_node(node) {
                        "a node with a subgraph does not stay float32"
                    } else {
                        "a subgraph of an operator outside ONNX has no known types"
                    };
                    self.refuse(node, what);
                }
                AttributeValue::Graph(graph) => {
                    **graph = self.convert_graph(graph, &part.scope, Role::Subgraph)?
                }
                AttributeValue::Graphs(graphs) => {
                    for graph in graphs {
                        *graph = self.convert_graph(graph, &part.scope, Role::Subgraph)?;
                    }
                }
                _ => {}
            }
        }
        let casts = self.convert_outputs(part, node, &mut new);
        part.nodes.push(new);
        part.nodes.extend(casts);
        Ok(())
    }

    /// Names the outputs of a node, and gives the casts that must follow it.
    fn convert_outputs(&mut self, part: &mut Part<'_>, node: &Node, new: &mut Node) -> Vec<Node> {
        let mut casts = Vec::new();
        let float_positions = self.float_outputs(node);
        for (idx, name) in node
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            let is_output = part.outputs.contains(name.as_str());
            let stays_float = float_positions.contain(idx) || part.keeps_float(node);
            let dtype = self
                .dtype(part, name)
                .or_else(|| part.dtype_of_float_output(node).filter(|_| stays_float));
            if dtype.is_none() && (is_output || stays_float) {
                self.refuse(
                    node,
                    &format!("the dtype of output \"{name}\" is not known: run shape inference first"),
                );
            }
            if dtype != Some(DType::Float32) || !(is_output || stays_float) {
                part.spell(name, dtype, name.clone(), None);
                continue;
            }
            let by_half = part.uses_of(name).by_half;
            let (half, float) = if is_output || !by_half {
                (self.fresh(name, "fp16"), name.clone())
            } else {
                (name.clone(), self.fresh(name, "fp32"))
            };
            if !stays_float {
                new.outputs[idx].clone_from(&half);
                casts.push(cast(&half, &float, ONNX_FLOAT));
            } else {
                new.outputs[idx].clone_from(&float);
                if by_half {
                    casts.push(cast(&float, &half, ONNX_FLOAT16));
                }
            }
            part.spell(name, dtype, half, Some(float));
        }
        casts
    }

    fn convert_attributes(&mut self, node: &mut Node) -> Result<(), ConvertError> {
        let rule = DTYPE_ATTRIBUTES
            .iter()
            .find(|(op_type, ..)| node.is_onnx(op_type));
        if let Some((_, name, when_absent)) = rule {
            match node.attributes.iter_mut().find(|a| a.name == *name) {
                Some(attribute) if attribute.value == AttributeValue::Int(ONNX_FLOAT) => {
                    attribute.value = AttributeValue::Int(ONNX_FLOAT16);
                }
                Some(_) => {}
                None if *when_absent == WhenAbsent::Float32 => {
                    node.attributes
                        .push(Attribute::new(*name, AttributeValue::Int(ONNX_FLOAT16)));
                }
                None => {}
            }
        }
        if node.is_onnx("ConstantOfShape") {
            let value = node
                .tensor("value")
                .cloned()
                .unwrap_or_else(|| Tensor::vector(vec![0.0_f32]).into());
            if value.dtype() == DType::Float32 {
                let half = self.half_of(node.output(0).unwrap_or_default(), &value, false)?;
                node.attributes.retain(|a| a.name != "value");
                node.attributes
                    .push(Attribute::new("value", AttributeValue::Tensor(half)));
            }
        }
        if node.is_onnx("Constant") && node.attribute("sparse_value").is_some() {
            self.refuse(node, "sparse constants are not converted");
        }
        Ok(())
    }

    /// The name under which a float32 operator reads a value: a cast is added where there is none.
    fn float_name(&mut self, part: &mut Part<'_>, node: &Node, name: &str) -> String {
        let Some(spelling) = part.scope.get(name).cloned() else {
            return name.to_owned();
        };
        match (spelling.dtype, spelling.float) {
            (Some(DType::Float32), Some(float)) => float,
            (Some(DType::Float32), None) => {
                let float = self.fresh(name, "fp32");
                part.nodes.push(cast(&spelling.half, &float, ONNX_FLOAT));
                float
            }
            (Some(_), _) => name.to_owned(),
            (None, _) => {
                self.refuse(
                    node,
                    &format!("the dtype of input \"{name}\" is not known: run shape inference first"),
                );
                name.to_owned()
            }
        }
    }

    fn dtype(&self, part: &Part<'_>, name: &str) -> Option<DType> {
        let declared = part.graph.declared_type(name).and_then(|ty| ty.dtype);
        declared.or_else(|| {
            self.inferred
                .get(name)
                .copied()
                .filter(|_| part.role == Role::Network)
        })
    }

    fn fresh(&mut self, name: &str, suffix: &str) -> String {
        let mut fresh = format!("{name}_{suffix}");
        let mut idx = 1;
        while !self.names.insert(fresh.clone()) {
            idx += 1;
            fresh = format!("{name}_{suffix}_{idx}");
        }
        fresh
    }

    fn refuse(&mut self, node: &Node, reason: &str) {
        self.refusals
            .push(format!("node \"{}\" ({}): {reason}", node.label(), node.op_type));
    }
}

fn cast(from: &str, to: &str, dtype: i64) -> Node {
    Node::new("Cast", &format!("{to}_cast"), &[from], &[to]).with_attribute("to", AttributeValue::Int(dtype))
}

fn declare_half(ty: &mut Option<ValueType>) {
    if let Some(ValueType::Tensor(tensor)) = ty
        && tensor.dtype == Some(DType::Float32)
    {
        tensor.dtype = Some(DType::Float16);
    }
}

/// The tensor of a `Constant` node that is float or may be.
fn constant_of(node: &Node) -> Option<Constant> {
    if !node.is_onnx("Constant") {
        return None;
    }
    let from_float = || node.float("value_float").map(|v| Tensor::scalar(v).into());
    let from_floats = || {
        node.floats("value_floats")
            .map(|v| Tensor::vector(v.to_vec()).into())
    };
    node.tensor("value")
        .cloned()
        .or_else(from_float)
        .or_else(from_floats)
}

#[cfg(test)]
mod tests;

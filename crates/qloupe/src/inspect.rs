//! What can be said of a model before anything runs: its interface, its operators and their cost, what qloupe cannot
//! run, weights that are hard to store in fewer bits, and what a target would do with each part.

mod json;
pub(crate) mod macs;
mod placement;
mod text;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Fact, Program, ops};
use qloupe_ir::{Graph, Model, ValueInfo};
use qloupe_tensor::DType;

pub use json::to_json;
pub use placement::{Compute, Cut, Placement, UnitPlacement};
pub use text::format_text;
pub use weights::{DEAD_CHANNEL, HazardKind, MAX_SPREAD, WeightHazard};

use crate::Error;
use crate::prepare::{Network, Prepared};
use crate::prequantized::{Prequantized, Summary, is_quantized};
use crate::recipe::{Layout, Recipe};
use crate::report::Finding;
use crate::samples::InputSpec;
use crate::shapes::{self, ShapeFinding};
use crate::targets::{self, Target};
use macs::{Macs, node_macs};
use placement::place;
use weights::weight_hazards;

/// The optimization level that a target's units are shown with.
const OPTIMIZATION_LEVEL: u8 = 3;

/// What can be said of a model before anything runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The file.
    pub file: String,
    /// Its size, if it can be read.
    pub file_size_bytes: Option<u64>,
    /// The exporter and its version.
    pub producer: String,
    /// The version of the file format.
    pub ir_version: i64,
    /// Operator sets and their versions.
    pub opsets: Vec<(String, i64)>,
    /// Nodes, those of subgraphs included.
    pub n_nodes: usize,
    /// Elements of stored float tensors.
    pub n_parameters: usize,
    /// Bytes of all stored tensors.
    pub weight_size_bytes: usize,
    /// Network inputs.
    pub inputs: Vec<InputLine>,
    /// Network outputs.
    pub outputs: Vec<ValueLine>,
    /// Operators, the most expensive and most frequent first.
    pub operators: Vec<OperatorLine>,
    /// Multiply-accumulates of the whole network at batch 1, as far as shapes are known.
    pub macs: u64,
    /// Nodes whose multiply-accumulates could not be counted.
    pub uncounted: Vec<String>,
    /// Operators that qloupe cannot run, with the nodes.
    pub unsupported: BTreeMap<String, Vec<String>>,
    /// Stored tensors that are hard to quantize or do not fit float16.
    pub hazards: Vec<WeightHazard>,
    /// Nodes that could not be inferred, and declarations that contradict.
    pub findings: Vec<ShapeFinding>,
    /// How the model is quantized already; absent for a float model.
    pub quantization: Option<Quantization>,
    /// What the target does; absent without a target, or when operators are missing.
    pub placement: Option<Placement>,
}

/// How a model is quantized already.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// By what scheme, and how much of it in which type.
    pub summary: Summary,
    /// What is wrong with it for the target, or for ONNX Runtime without one.
    pub findings: Vec<Finding>,
}

/// A network input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Name, dtype and shape.
    pub value: ValueLine,
    /// Open dimensions: axis and name.
    pub open: Vec<(usize, String)>,
    /// How it is fed without a recipe.
    pub feed: String,
}

/// A value with dtype and shape, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueLine {
    /// The name.
    pub name: String,
    /// The dtype, `?` when unknown.
    pub dtype: String,
    /// The dimensions, open ones as expressions; absent when the rank is unknown.
    pub shape: Option<Vec<String>>,
}

/// An operator in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorLine {
    /// The operator, with its domain when it is not ONNX.
    pub op: String,
    /// How many nodes.
    pub count: usize,
    /// Multiply-accumulates; absent for operators that have none.
    pub macs: Option<u64>,
    /// What the target computes it with, and for how many nodes; empty without a target or for shape arithmetic.
    pub compute: BTreeMap<Compute, usize>,
}

/// Inspects a model. Nothing runs; unsupported operators are listed.
///
/// # Errors
/// `shapes` that do not fit the inputs; a malformed graph.
pub fn inspect(
    model: &Model,
    file: &str,
    shapes: &BTreeMap<String, Vec<usize>>,
    target: Option<&'static Target>,
) -> Result<Inspection, Error> {
    let options = |error: shapes::ShapeError| Error::Options(format!("{file}: {error}"));
    let named = shapes::infer(model, shapes).map_err(options)?;
    let counted = shapes::infer_with_batch(model, shapes, 1).map_err(options)?;
    let unsupported = unsupported_operators(model);
    let mut census = Census::default();
    census.add(&model.graph);
    let mut operators = count_operators(model, &counted.facts);
    let uncounted = uncounted_nodes(&model.graph, &counted.facts);
    let stored = match is_quantized(model) {
        true => Some(Prequantized::read(file.to_owned(), model.clone())?),
        false => None,
    };
    let placement = match target.filter(|_| unsupported.is_empty()) {
        Some(target) => Some(place_on(model, stored.as_ref(), file, shapes, target)?),
        None => None,
    };
    for line in &mut operators {
        line.compute = match (&placement, target) {
            (Some(placement), _) => computes_of(placement, &line.op),
            (None, Some(target)) => computes_of_nodes(&model.graph, &counted.facts, &line.op, target),
            (None, None) => BTreeMap::new(),
        };
    }
    Ok(Inspection {
        file: file.to_owned(),
        file_size_bytes: std::fs::metadata(file).ok().map(|m| m.len()),
        producer: format!("{} {}", model.producer_name, model.producer_version)
            .trim()
            .to_owned(),
        ir_version: model.ir_version,
        opsets: model
            .opset_imports
            .iter()
            .map(|o| (domain_name(&o.domain).to_owned(), o.version))
            .collect(),
        n_nodes: census.n_nodes,
        n_parameters: census.n_parameters,
        weight_size_bytes: census.weight_size_bytes,
        inputs: model
            .graph
            .runtime_inputs()
            .into_iter()
            .map(|i| input_line(i, &named.facts))
            .collect(),
        outputs: model
            .graph
            .outputs
            .iter()
            .map(|o| value_line(o, &named.facts))
            .collect(),
        macs: operators.iter().filter_map(|o| o.macs).sum(),
        operators,
        uncounted,
        unsupported,
        hazards: weight_hazards(&model.graph),
        findings: named.findings,
        quantization: stored.map(|stored| Quantization {
            summary: stored.summary(),
            findings: stored.audit(target.unwrap_or(&targets::ONNXRUNTIME)),
        }),
        placement,
    })
}

fn domain_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// `Conv`, `com.microsoft.FusedConv`.
fn full_name(op_type: &str, domain: &str) -> String {
    match domain {
        "" | "ai.onnx" => op_type.to_owned(),
        domain => format!("{domain}.{op_type}"),
    }
}

fn place_on(
    model: &Model,
    stored: Option<&Prequantized>,
    file: &str,
    shapes: &BTreeMap<String, Vec<usize>>,
    target: &'static Target,
) -> Result<Placement, Error> {
    let model = stored.map_or(model, Prequantized::twin);
    let program = Program::new(model).map_err(|source| Error::Exec {
        file: file.to_owned(),
        source,
    })?;
    let network = Network {
        file: file.to_owned(),
        model: model.clone(),
        program,
    };
    let prepared = match stored {
        Some(stored) => stored.prepare(&network, target)?.0,
        None => Prepared::new(&network, target, OPTIMIZATION_LEVEL)?,
    };
    let inference = shapes::infer_with_batch(&prepared.model, shapes, 1);
    let facts = inference
        .map_err(|error| Error::Options(format!("{file}: {error}")))?
        .facts;
    Ok(place(&prepared, &facts, target))
}

fn computes_of(placement: &Placement, op: &str) -> BTreeMap<Compute, usize> {
    let mut counts = BTreeMap::new();
    for unit in &placement.units {
        let count = unit.op_types.iter().filter(|o| *o == op).count();
        if count > 0 {
            *counts.entry(unit.compute).or_insert(0) += count;
        }
    }
    counts
}

/// As [`computes_of`], for a model that cannot be grouped into units: what the target does with each float node.
fn computes_of_nodes(
    graph: &Graph,
    facts: &BTreeMap<String, Fact>,
    op: &str,
    target: &Target,
) -> BTreeMap<Compute, usize> {
    let mut counts = BTreeMap::new();
    for node in graph
        .nodes
        .iter()
        .filter(|n| full_name(&n.op_type, &n.domain) == op && !n.is_onnx("Constant"))
    {
        let dtype = node.output(0).and_then(|output| facts.get(output)?.dtype);
        if dtype == Some(DType::Float32) {
            *counts
                .entry(Compute::of(target.support(&node.op_type, &node.domain)))
                .or_insert(0) += 1;
        }
    }
    counts
}

/// What a graph and its subgraphs store.
#[derive(Default)]
struct Census {
    n_nodes: usize,
    n_parameters: usize,
    weight_size_bytes: usize,
}

impl Census {
    fn add(&mut self, graph: &Graph) {
        for constant in graph.constants().into_values() {
            if constant.dtype().is_float() {
                self.n_parameters += constant.len();
            }
            self.weight_size_bytes += constant.dtype().size_bytes(constant.len()).unwrap_or(0);
        }
        self.n_nodes += graph.nodes.len();
        graph
            .nodes
            .iter()
            .flat_map(|node| node.subgraphs())
            .for_each(|(_, subgraph)| self.add(subgraph));
    }
}

fn unsupported_operators(model: &Model) -> BTreeMap<String, Vec<String>> {
    fn add(graph: &Graph, prefix: &str, missing: &mut BTreeMap<String, Vec<String>>) {
        for node in &graph.nodes {
            let place = format!("{prefix}{}", node.label());
            if ops::find(&node.op_type, &node.domain).is_none() {
                missing
                    .entry(full_name(&node.op_type, &node.domain))
                    .or_default()
                    .push(place.clone());
            }
            for (attribute, subgraph) in node.subgraphs() {
                add(subgraph, &format!("{place}/{attribute}/"), missing);
            }
        }
    }
    let mut missing = BTreeMap::new();
    add(&model.graph, "", &mut missing);
    missing
}

fn count_operators(model: &Model, facts: &BTreeMap<String, Fact>) -> Vec<OperatorLine> {
    fn add(
        graph: &Graph,
        facts: &BTreeMap<String, Fact>,
        counts: &mut BTreeMap<String, (usize, Option<u64>)>,
    ) {
        for node in &graph.nodes {
            let entry = counts.entry(full_name(&node.op_type, &node.domain)).or_default();
            entry.0 += 1;
            if let Macs::Counted(n) = node_macs(node, facts) {
                entry.1 = Some(entry.1.unwrap_or(0) + n);
            }
            node.subgraphs()
                .for_each(|(_, subgraph)| add(subgraph, &BTreeMap::new(), counts));
        }
    }
    let mut counts = BTreeMap::new();
    add(&model.graph, facts, &mut counts);
    let line = |(op, (count, macs))| OperatorLine {
        op,
        count,
        macs,
        compute: BTreeMap::new(),
    };
    let mut lines: Vec<OperatorLine> = counts.into_iter().map(line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse((line.macs, line.count)));
    lines
}

/// Nodes with multiply-accumulates of unknown number; those of subgraphs are never counted.
fn uncounted_nodes(graph: &Graph, facts: &BTreeMap<String, Fact>) -> Vec<String> {
    let mut nodes = Vec::new();
    for node in &graph.nodes {
        if node_macs(node, facts) == Macs::Open {
            nodes.push(node.label().to_owned());
        }
        for (_, subgraph) in node.subgraphs() {
            nodes.extend(uncounted_nodes(subgraph, &BTreeMap::new()));
        }
    }
    nodes
}

fn value_line(info: &ValueInfo, facts: &BTreeMap<String, Fact>) -> ValueLine {
    let fact = facts.get(&info.name);
    let dtype = fact.and_then(|f| f.dtype);
    let shape = fact.and_then(|f| f.shape.as_ref());
    ValueLine {
        name: info.name.clone(),
        dtype: dtype.map_or("?", DType::name).to_owned(),
        shape: shape.map(|dims| dims.iter().map(ToString::to_string).collect()),
    }
}

fn input_line(info: &ValueInfo, facts: &BTreeMap<String, Fact>) -> InputLine {
    let shape = facts
        .get(&info.name)
        .and_then(|f| f.shape.clone())
        .unwrap_or_default();
    let open = shape
        .iter()
        .enumerate()
        .filter(|(_, dim)| dim.as_known().is_none());
    InputLine {
        value: value_line(info, facts),
        open: open.map(|(axis, dim)| (axis, dim.to_string())).collect(),
        feed: default_feed(info, facts),
    }
}

/// How an input is fed when no recipe says otherwise.
fn default_feed(info: &ValueInfo, facts: &BTreeMap<String, Fact>) -> String {
    let fact = facts.get(&info.name);
    let (Some(dtype), Some(shape)) = (fact.and_then(|f| f.dtype), fact.and_then(|f| f.shape.as_ref())) else {
        return "its dtype or rank is not declared".to_owned();
    };
    let sizes = shape.iter().map(qloupe_exec::SymDim::as_size).collect();
    let spec = match InputSpec::new(&info.name, dtype, sizes, &Recipe::default()) {
        Ok(spec) => spec,
        Err(error) => return error.to_string(),
    };
    let Ok(image) = &spec.image else {
        return "arrays as they are (.npy, .npz, .safetensors)".to_owned();
    };
    let layout = match image.layout {
        Layout::Nchw => "nchw",
        Layout::Nhwc => "nhwc",
    };
    let size = match (image.height, image.width) {
        (Some(height), Some(width)) => format!("stretched to {height}x{width} (HxW)"),
        _ => "at their own size".to_owned(),
    };
    format!(
        "images: {}, {layout}, {size}, values 0..255; or arrays as they are",
        image.channel_order.name()
    )
}

/// Open dimensions of the inputs other than the batch, `x[2]`.
fn open_dims(inspection: &Inspection) -> BTreeSet<String> {
    let of = |input: &InputLine| {
        let name = input.value.name.clone();
        input
            .open
            .iter()
            .filter(|(axis, _)| *axis > 0)
            .map(move |(axis, _)| format!("{name}[{axis}]"))
            .collect::<Vec<_>>()
    };
    inspection.inputs.iter().flat_map(of).collect()
}

/// What to give so that every shape is known.
fn shape_hint(inspection: &Inspection) -> Option<String> {
    let input = inspection.inputs.iter().find(|input| !input.open.is_empty())?;
    let dims = input.value.shape.as_ref()?;
    let is_open = |axis| input.open.iter().any(|(open, _)| *open == axis);
    let given = dims
        .iter()
        .enumerate()
        .map(|(axis, dim)| match (is_open(axis), axis) {
            (false, _) => dim.clone(),
            (true, 0) => "1".to_owned(),
            (true, 1..4) if dims.len() == 4 => ["C", "H", "W"][axis - 1].to_owned(),
            (true, _) => format!("D{axis}"),
        });
    Some(format!(
        "--shape {}={}",
        input.value.name,
        given.collect::<Vec<_>>().join(",")
    ))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Dim, Extra, Node, OpsetImport, TensorType};
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::targets;

    /// x -> Conv -> Relu -> Softmax -> y, with a dead channel in the weight.
    fn model() -> Model {
        let info = |name: &str, dims: &[Dim]| {
            ValueInfo::tensor(
                name,
                TensorType {
                    dtype: Some(DType::Float32),
                    shape: Some(dims.to_vec()),
                    extra: Extra::default(),
                },
            )
        };
        let batch = || Dim::Symbol("N".to_owned());
        let mut graph = Graph {
            inputs: vec![info("x", &[batch(), Dim::Known(3), Dim::Known(4), Dim::Known(4)])],
            outputs: vec![info("y", &[batch(), Dim::Known(2), Dim::Known(4), Dim::Known(4)])],
            nodes: vec![
                Node::new("Conv", "conv", &["x", "w"], &["a"]),
                Node::new("Relu", "relu", &["a"], &["b"]),
                Node::new("Exp", "exp", &["b"], &["y"]),
            ],
            ..Graph::default()
        };
        let weights = vec![1.0_f32, 0.5, 0.25, 0.0, 0.0, 0.0];
        graph.set_initializer("w", Tensor::new(&[2, 3, 1, 1], weights).expect("2 x 3 elements"));
        Model {
            ir_version: 8,
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            producer_name: "tests".to_owned(),
            graph,
            ..Model::default()
        }
    }

    #[test]
    fn a_model_on_a_target() {
        let target = targets::find("rk3588").unwrap();
        let inspection = inspect(&model(), "m.onnx", &BTreeMap::new(), Some(target)).unwrap();
        let expected = "\
m.onnx
  ir 8, opset ai.onnx 13, from tests
  3 nodes, 6 parameters, 24 B stored, 96 MACs (192 FLOPs) at batch 1

input   x  float32  [N, 3, 4, 4]  images: rgb, nchw, stretched to 4x4 (HxW), values 0..255; or arrays as they are
output  y  float32  [N, 2, 4, 4]

operator  count  MACs   share  computes in
Conv          1    96  100.0%  int8
Exp           1                fp16
Relu          1                int8

on rk3588 (checked against the vendor's PC simulator, not silicon)
  int8  1 unit  100.0% of the MACs
  fp16  1 unit    0.0% of the MACs
  1 value cast between integers and floats, 32 elements
  fp16  Exp    y
  the last 1 unit holds Exp: crop with --crop-outputs b and post-process on the CPU

weights to watch
  1 channel of zeros or nearly, in \"w\"
";
        assert_eq!(format_text(&inspection), expected);
        let json = to_json(&inspection);
        assert_eq!(json["placement"]["cut"]["outputs"][0], "b");
        assert_eq!(json["inputs"][0]["shape"][0], "N");
    }

    #[test]
    fn open_dimensions_and_unknown_operators_do_not_stop_it() {
        let mut model = model();
        model.graph.inputs[0] = ValueInfo::tensor(
            "x",
            TensorType {
                dtype: Some(DType::Float32),
                shape: Some(vec![
                    Dim::Unknown,
                    Dim::Known(3),
                    Dim::Known(-1),
                    Dim::Symbol("?".to_owned()),
                ]),
                extra: Extra::default(),
            },
        );
        model.graph.nodes[2] = Node {
            domain: "com.example".to_owned(),
            ..Node::new("Magic", "magic", &["b"], &["y"])
        };
        let inspection = inspect(&model, "m.onnx", &BTreeMap::new(), None).unwrap();
        assert_eq!(inspection.unsupported["com.example.Magic"], ["magic"]);
        assert_eq!(inspection.uncounted, ["conv"]);
        let text = format_text(&inspection);
        assert!(
            text.contains("MACs of 1 node not counted: x[2], x[3] are open: give --shape x=1,3,H,W"),
            "{text}"
        );
        assert!(
            text.contains("cannot run: 1 operator unsupported\n  com.example.Magic  1  magic"),
            "{text}"
        );
    }
}

//! The float twin of a quantized model: its Q/DQ pairs and integer weights taken out of the graph, and kept as data.
//!
//! A value that one QuantizeLinear reads and nothing else becomes a quantized value of the same name. A value that is
//! read in several ways (with two scales, or once in float) stays float; each quantized reading of it is an Identity.
//! Where a Relu was removed because the integers hold no negative numbers, the twin has it again. A node that fits none
//! of this stays in the twin as it is, and is listed.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::{Graph, Model, Node, Topology, ValueInfo, ValueType};
use qloupe_tensor::{DType, Granularity, QuantParams, Tensor};

use super::constants::{Constants, NoParams, integers};
use super::kept::{Kept, kept_nodes};
use super::names::{Names, original_name};
use super::recover::{Recovered, recover_activations};
use crate::Error;
use crate::units::is_product;

/// How a value of the twin is quantized.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quantization {
    /// With these parameters.
    Fixed(QuantParams),
    /// The integers of another value.
    Shared(String, QuantParams),
    /// With the range that it has as it runs, where a product reads it.
    Dynamic,
}

impl Quantization {
    /// The parameters, where they are fixed.
    pub(super) fn params(&self) -> Option<&QuantParams> {
        match self {
            Self::Fixed(params) | Self::Shared(_, params) => Some(params),
            Self::Dynamic => None,
        }
    }
}

/// A constant of the twin that the model stores in integers, or quantizes before it uses it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReadWeight {
    /// Its name in the twin.
    pub(super) name: String,
    /// The DequantizeLinear, or the node it was made from.
    pub(super) node: String,
    /// Its parameters, or why a plan cannot hold them.
    pub(super) params: Result<QuantParams, NoParams>,
    /// The integers of a bias.
    pub(super) bias: Option<Vec<i32>>,
}

/// A quantized model, taken apart.
#[derive(Debug)]
pub(super) struct Reading {
    /// The model with its operators on integers rewritten as Q/DQ.
    pub(super) lowered: Model,
    /// The float twin.
    pub(super) twin: Model,
    /// How values of the twin are quantized.
    pub(super) values: BTreeMap<String, Quantization>,
    /// Its quantized constants, in the order of their use.
    pub(super) weights: Vec<ReadWeight>,
    /// The value of the twin that an integer value, or a dequantized one, of the model stands for.
    pub(super) stands_for: BTreeMap<String, String>,
    /// Nodes on integers that are still in the twin.
    pub(super) kept: Vec<Kept>,
    /// Activations that the twin has again.
    pub(super) recovered: Vec<Recovered>,
}

/// Takes a lowered model apart.
///
/// # Errors
/// A malformed graph, a stored tensor that cannot be decoded.
pub(super) fn read(file: &str, lowered: Model) -> Result<Reading, Error> {
    let in_graph = |source| Error::Graph {
        file: file.to_owned(),
        source,
    };
    let topology = Topology::new(&lowered.graph).map_err(in_graph)?;
    let constants = Constants::of(file, &lowered, &topology)?;
    let mut reader = Reader {
        lowered: &lowered,
        topology: &topology,
        constants: &constants,
        names: Names::of(&lowered.graph),
        captured: captured_names(&lowered.graph),
        nodes: Vec::with_capacity(lowered.graph.nodes.len()),
        stored: BTreeMap::new(),
        values: BTreeMap::new(),
        real: BTreeMap::new(),
        weights: Vec::new(),
        weight_of: BTreeMap::new(),
        reasons: BTreeMap::new(),
    };
    let inputs = lowered
        .graph
        .inputs
        .iter()
        .map(|input| reader.input(input))
        .collect();
    for node in &lowered.graph.nodes {
        reader.node(node);
    }
    let mut twin = lowered.clone();
    twin.graph.inputs = inputs;
    let renames = reader.outputs(&mut twin.graph);
    let Reader {
        nodes,
        stored,
        mut values,
        mut real,
        mut weights,
        reasons,
        mut names,
        ..
    } = reader;
    twin.graph.nodes = nodes;
    for (name, tensor) in stored {
        twin.graph.set_initializer(&name, tensor);
    }
    let renamed = |name: &mut String| {
        if let Some(new) = renames.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut twin.graph.nodes {
        node.inputs.iter_mut().chain(&mut node.outputs).for_each(renamed);
    }
    values = values
        .into_iter()
        .map(|(mut name, mut quantization)| {
            renamed(&mut name);
            if let Quantization::Shared(source, _) = &mut quantization {
                renamed(source);
            }
            (name, quantization)
        })
        .collect();
    real.values_mut().for_each(renamed);
    weights.iter_mut().for_each(|weight| renamed(&mut weight.name));
    let recovered = recover_activations(&mut twin, &values, &mut names);
    twin.graph.crop(&[], &[]).map_err(in_graph)?;
    let kept = kept_nodes(&twin.graph, &reasons);
    Ok(Reading {
        twin,
        values,
        weights,
        stands_for: real,
        kept,
        recovered,
        lowered,
    })
}

/// Values that a subgraph reads: their nodes stay as they are.
fn captured_names(graph: &Graph) -> BTreeSet<String> {
    let subgraphs = graph.nodes.iter().flat_map(|node| node.subgraphs());
    subgraphs
        .flat_map(|(_, subgraph)| subgraph.captures())
        .map(str::to_owned)
        .collect()
}

/// A reading in progress.
pub(super) struct Reader<'a> {
    pub(super) lowered: &'a Model,
    pub(super) topology: &'a Topology,
    pub(super) constants: &'a Constants,
    pub(super) names: Names,
    pub(super) captured: BTreeSet<String>,
    pub(super) nodes: Vec<Node>,
    /// Constants of the twin that the model does not store so.
    pub(super) stored: BTreeMap<String, Tensor>,
    pub(super) values: BTreeMap<String, Quantization>,
    /// The value of the twin that an integer value, or a dequantized one, stands for.
    pub(super) real: BTreeMap<String, String>,
    pub(super) weights: Vec<ReadWeight>,
    /// The constant of the twin for integers, scale and zero point.
    pub(super) weight_of: BTreeMap<Vec<String>, String>,
    /// Why a node on integers must stay.
    pub(super) reasons: BTreeMap<String, String>,
}

impl Reader<'_> {
    /// A network input: integers that are dequantized everywhere in the same way become float.
    fn input(&mut self, input: &ValueInfo) -> ValueInfo {
        let mut written = input.clone();
        let Some(ValueType::Tensor(ty)) = &mut written.ty else {
            return written;
        };
        let consumers = self.topology.consumers(&input.name);
        let dtype = ty.dtype.filter(|dtype| is_activation_type(*dtype));
        let params = |&idx: &usize| {
            let node = &self.lowered.graph.nodes[idx];
            let params = self.constants.params(node, dtype, None).ok()?;
            (node.is_onnx("DequantizeLinear") && params.as_per_tensor().is_some()).then_some(params)
        };
        let all: Option<Vec<QuantParams>> = consumers.iter().map(params).collect();
        let (Some(_), Some(all)) = (dtype, all) else {
            return written;
        };
        let Some(first) = all.first().filter(|first| all.iter().all(|p| p == *first)) else {
            return written;
        };
        if self.lowered.graph.initializer(&input.name).is_some() || self.captured.contains(&input.name) {
            return written;
        }
        ty.dtype = Some(DType::Float32);
        written.name = match original_name(&input.name) {
            Some(name) => self.names.take(name),
            None => input.name.clone(),
        };
        self.values
            .insert(written.name.clone(), Quantization::Fixed(first.clone()));
        self.real.insert(input.name.clone(), written.name.clone());
        written
    }

    fn node(&mut self, node: &Node) {
        let is_constant = node.outputs.iter().all(|name| self.constants.contains(name));
        if is_constant && node.is_onnx("DequantizeLinear") {
            return self.weight(node);
        }
        if is_constant {
            return self.nodes.push(node.clone());
        }
        if node.is_onnx("QuantizeLinear") {
            self.quantize(node);
        } else if node.is_onnx("DynamicQuantizeLinear") {
            self.quantize_dynamic(node);
        } else if node.is_onnx("DequantizeLinear") {
            return self.dequantize(node);
        } else if let Err(reason) = self.move_integers(node) {
            self.reasons.insert(node.label().to_owned(), reason);
        }
        let mut written = node.clone();
        for name in &mut written.inputs {
            // Integers keep their name: only what a DequantizeLinear made is read under the name of the twin.
            let is_real = self
                .topology
                .producer(name)
                .is_some_and(|idx| self.lowered.graph.nodes[idx].is_onnx("DequantizeLinear"));
            if let Some(value) = self.real.get(name).filter(|_| is_real) {
                name.clone_from(value);
            }
        }
        self.nodes.push(written);
    }

    /// The value of the twin that a float value of the model is.
    pub(super) fn twin_name(&self, name: &str) -> String {
        self.real.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn weight(&mut self, node: &Node) {
        let Some(output) = node.output(0) else { return };
        let Some(real) = self.constants.get(output).cloned() else {
            // It could not be computed: running the node will say why.
            return self.nodes.push(node.clone());
        };
        let key = node.inputs.clone();
        if let Some(name) = self.weight_of.get(&key) {
            self.real.insert(output.to_owned(), name.clone());
            return;
        }
        let integers_name = node.input(0).unwrap_or_default();
        let stored = self.constants.get(integers_name);
        let dtype = stored.map(Tensor::dtype);
        let params = self.constants.params(node, dtype, Some(real.rank()));
        let bias = stored.filter(|t| t.dtype() == DType::Int32).and_then(integers);
        let name = match self.float_source(integers_name) {
            Some(source) => source,
            None => self.weight_name(integers_name, output),
        };
        if self.captured.contains(output) {
            self.nodes.push(node.clone());
        }
        self.stored.insert(name.clone(), real);
        self.weight_of.insert(key, name.clone());
        self.real.insert(output.to_owned(), name.clone());
        self.weights.push(ReadWeight {
            name,
            node: node.label().to_owned(),
            params,
            bias,
        });
    }

    /// The name of a weight: what its integers were made of, or the output of its DequantizeLinear, which is gone.
    fn weight_name(&mut self, integers: &str, output: &str) -> String {
        let captured = self.captured.contains(output);
        let wanted = [original_name(integers), original_name(output), Some(output)];
        let is_free = |name: &&str| (*name == output && !captured) || self.names.is_free(name);
        match wanted.into_iter().flatten().find(is_free) {
            Some(name) if name == output => output.to_owned(),
            Some(name) => self.names.take(name),
            None => self.names.take(output),
        }
    }

    /// The float tensor that integers are made of, where nothing else uses either: its name is free for the twin.
    fn float_source(&self, integers: &str) -> Option<String> {
        let mut at = integers;
        loop {
            let [_] = self.topology.consumers(at) else {
                return None;
            };
            match self.topology.producer(at) {
                Some(idx) => at = self.lowered.graph.nodes[idx].input(0)?,
                None => break,
            }
        }
        let stored = self.lowered.graph.initializer(at)?;
        (at != integers && stored.dtype().is_float()).then(|| at.to_owned())
    }

    fn quantize(&mut self, node: &Node) {
        let (Some(x), Some(output)) = (node.input(0), node.output(0)) else {
            return;
        };
        let params = match self.activation_params(node) {
            Ok(params) => params,
            Err(reason) => {
                self.reasons.insert(node.label().to_owned(), reason);
                return;
            }
        };
        let source = self.twin_name(x);
        let known = self.values.get(&source);
        if known.and_then(Quantization::params) == Some(&params) {
            self.real.insert(output.to_owned(), source);
            return;
        }
        let sole = known.is_none() && self.is_read_only_so(x, &params);
        let value = if sole {
            source
        } else {
            let name = self.name_of_reading(x, output);
            self.nodes
                .push(Node::new("Identity", node.label(), &[&source], &[&name]));
            name
        };
        self.values.insert(value.clone(), Quantization::Fixed(params));
        self.real.insert(output.to_owned(), value);
    }

    /// The parameters of a QuantizeLinear that a plan can hold, or why it cannot.
    fn activation_params(&self, node: &Node) -> Result<QuantParams, String> {
        let params = self
            .constants
            .params(node, None, None)
            .map_err(|e| e.to_string())?;
        if matches!(params.granularity(), Granularity::PerBlock { .. }) {
            return Err("an activation with scales for blocks".to_owned());
        }
        if !is_activation_type(params.dtype()) {
            return Err(format!(
                "an activation in {}, expected 8 or 16 bits",
                params.dtype()
            ));
        }
        Ok(params)
    }

    /// True when every reader of a value is a QuantizeLinear with these parameters.
    fn is_read_only_so(&self, name: &str, params: &QuantParams) -> bool {
        let is_output = self.lowered.graph.is_output(name);
        let reads_so = |&idx: &usize| {
            let node = &self.lowered.graph.nodes[idx];
            node.is_onnx("QuantizeLinear") && self.activation_params(node).as_ref() == Ok(params)
        };
        !is_output && self.topology.consumers(name).iter().all(reads_so)
    }

    /// The name of a quantized reading of a value: that of its DequantizeLinear, which the twin has no more.
    fn name_of_reading(&mut self, x: &str, integers: &str) -> String {
        let consumers = self.topology.consumers(integers).iter();
        let mut nodes = consumers.map(|&idx| &self.lowered.graph.nodes[idx]);
        let dequantized = nodes
            .find(|n| n.is_onnx("DequantizeLinear"))
            .and_then(|n| n.output(0));
        let free = dequantized.filter(|name| !self.captured.contains(*name));
        free.map_or_else(|| self.names.take(&format!("{x}_dequantized")), str::to_owned)
    }

    fn quantize_dynamic(&mut self, node: &Node) {
        let (Some(x), Some(output)) = (node.input(0), node.output(0)) else {
            return;
        };
        let graph = &self.lowered.graph;
        let reads_product = |name: &str, product: &Node| {
            is_product(product)
                && product.inputs.iter().take(2).any(|input| input == name)
                && product.inputs.iter().skip(2).all(|input| input != name)
        };
        let readings = self
            .topology
            .consumers(output)
            .iter()
            .map(|&idx| &graph.nodes[idx]);
        let by_products_only = readings.clone().all(|reading| {
            let Some(real) = reading.output(0).filter(|_| reading.is_onnx("DequantizeLinear")) else {
                return false;
            };
            let is_output = graph.is_output(real);
            let own_scale = reading.input(1) == node.output(1) && reading.input(2) == node.output(2);
            let mut readers = self.topology.consumers(real).iter();
            own_scale && !is_output && readers.all(|&idx| reads_product(real, &graph.nodes[idx]))
        });
        let is_output = graph.is_output(output);
        if !by_products_only || is_output {
            let reason = "something other than a product reads its integers";
            self.reasons.insert(node.label().to_owned(), reason.to_owned());
            return;
        }
        let source = self.twin_name(x);
        if self.values.get(&source) == Some(&Quantization::Dynamic) {
            self.real.insert(output.to_owned(), source);
            return;
        }
        let read_by_float_product = self
            .topology
            .consumers(x)
            .iter()
            .any(|&idx| is_product(&graph.nodes[idx]));
        let value = if self.values.contains_key(&source) || read_by_float_product {
            let name = self.name_of_reading(x, output);
            self.nodes
                .push(Node::new("Identity", node.label(), &[&source], &[&name]));
            name
        } else {
            source
        };
        self.values.insert(value.clone(), Quantization::Dynamic);
        self.real.insert(output.to_owned(), value);
    }

    fn dequantize(&mut self, node: &Node) {
        let (Some(integers), Some(output)) = (node.input(0), node.output(0)) else {
            return;
        };
        let Some(value) = self.real.get(integers).cloned() else {
            return self.nodes.push(node.clone());
        };
        let matches = match &self.values.get(&value) {
            Some(Quantization::Fixed(params) | Quantization::Shared(_, params)) => {
                self.constants.params(node, Some(params.dtype()), None).as_ref() == Ok(params)
            }
            Some(Quantization::Dynamic) => true,
            None => false,
        };
        if !matches {
            let reason = "its scale is not the one that the integers were made with";
            self.reasons.insert(node.label().to_owned(), reason.to_owned());
            return self.nodes.push(node.clone());
        }
        if self.captured.contains(output) {
            self.nodes.push(node.clone());
        }
        self.real.insert(output.to_owned(), value);
    }

    /// Gives the network outputs their float values: values that are renamed to them.
    fn outputs(&mut self, graph: &mut Graph) -> BTreeMap<String, String> {
        let inputs: BTreeSet<String> = graph.inputs.iter().map(|i| i.name.clone()).collect();
        let mut taken: BTreeSet<String> = graph.output_names().map(str::to_owned).collect();
        let mut renames = BTreeMap::new();
        for output in &mut graph.outputs {
            let Some(value) = self.real.get(&output.name).cloned().filter(|v| *v != output.name) else {
                continue;
            };
            let is_integer = self.integer_value(&output.name).is_some();
            if is_integer && taken.insert(value.clone()) {
                output.name.clone_from(&value);
                if let Some(ValueType::Tensor(ty)) = &mut output.ty {
                    ty.dtype = Some(DType::Float32);
                }
            } else if is_integer {
                // Another output is the same value in float: these integers stay.
            } else if inputs.contains(&value)
                || taken.contains(&value)
                || renames.contains_key(&value)
                || self.captured.contains(&value)
                || self.captured.contains(&output.name)
            {
                if !self.captured.contains(&output.name) {
                    self.nodes
                        .push(Node::new("Identity", &output.name, &[&value], &[&output.name]));
                }
            } else {
                renames.insert(value, output.name.clone());
            }
        }
        for value in self.values.keys() {
            let fixed = inputs.contains(value) || taken.contains(value) || self.captured.contains(value);
            if let Some(original) = original_name(value).filter(|_| !fixed && !renames.contains_key(value))
                && self.names.is_free(original)
            {
                renames.insert(value.clone(), self.names.take(original));
            }
        }
        renames
    }
}

/// The integers that a value can travel in.
fn is_activation_type(dtype: DType) -> bool {
    matches!(dtype, DType::UInt8 | DType::Int8 | DType::UInt16 | DType::Int16)
}

//! The QDQ model: a plan written into the graph as QuantizeLinear and DequantizeLinear.
//!
//! A quantized value `v` becomes `v -> QuantizeLinear -> v_quantized -> DequantizeLinear -> v_dequantized`; where `v` is
//! a network output, the float value before is `v_float` and `v` keeps its name. Weights and biases are integer
//! initializers behind a DequantizeLinear. A float16 value passes through a Cast to float16 and back.

mod stored;

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Assignment, Bias, Cast, Form, UnitCompute, UnitSpec};
use qloupe_ir::{AttributeValue, Graph, Initializer, Model, Node, ValueInfo};
use qloupe_tensor::{DType, Granularity, QuantParams, Rounding, Tensor, quantize_bias, quantize_linear};

use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use stored::integers_of;
pub(crate) use stored::{ScaleType, dequantized};

/// The first version of the file format that has per-channel QuantizeLinear.
const MIN_IR_VERSION: i64 = 7;

/// Writes a plan into the graph.
///
/// # Errors
/// A weight that does not fit its parameters.
pub fn export_qdq(prepared: &Prepared, plan: &QuantPlan) -> Result<Model, Error> {
    let assignment = prepared.assignment(plan);
    refuse_unwritable(&assignment)?;
    let mut writer = Writer::new(prepared, &assignment);
    for input in prepared.model.graph.runtime_inputs() {
        writer.after_value(&input.name, &input.name);
    }
    let mut owner: BTreeMap<usize, usize> = BTreeMap::new();
    for (unit_idx, unit) in assignment.units.iter().enumerate() {
        owner.extend(unit.node_idxs.iter().map(|&node_idx| (node_idx, unit_idx)));
    }
    for (node_idx, node) in prepared.model.graph.nodes.iter().enumerate() {
        match owner.get(&node_idx) {
            Some(&unit_idx) => writer.node(node, &assignment.units[unit_idx])?,
            None => writer.nodes.push(node.clone()),
        }
    }
    let mut model = prepared.model.clone();
    model.ir_version = model.ir_version.max(MIN_IR_VERSION);
    model.producer_name = "qloupe".to_owned();
    model.producer_version = env!("CARGO_PKG_VERSION").to_owned();
    let (nodes, mut initializers) = (writer.nodes, writer.initializers);
    model.graph.nodes = nodes;
    for initializer in &mut model.graph.initializers {
        if let Some(tensor) = initializers.remove(&initializer.name) {
            initializer.value = tensor.into();
        }
    }
    let added = initializers.into_iter().map(|(name, tensor)| Initializer {
        name,
        value: tensor.into(),
    });
    model.graph.initializers.extend(added);
    drop_unused(&mut model.graph);
    Ok(model)
}

/// Refuses forms that a hand can write into a plan, but that have no place in a QDQ model of this tool.
fn refuse_unwritable(assignment: &Assignment) -> Result<(), Error> {
    for (name, form) in &assignment.forms {
        let fixed = form
            .read_params()
            .is_some_and(|params| params.as_per_tensor().is_none());
        if fixed || form.cast() == Some(&Cast::Dynamic) {
            let what = if fixed { "several scales" } else { "`dynamic`" };
            return Err(Error::Options(format!(
                "value \"{name}\": a QDQ model is written with one scale for a value, expected one, got {what}"
            )));
        }
    }
    for (name, params) in assignment.units.iter().flat_map(|unit| &unit.weights) {
        let blocks = matches!(params.granularity(), Granularity::PerBlock { .. });
        if blocks {
            return Err(Error::Options(format!(
                "weight \"{name}\": a QDQ model is written with one scale for the tensor or each channel, got {}",
                params.granularity()
            )));
        }
    }
    Ok(())
}

struct Writer<'a> {
    prepared: &'a Prepared,
    assignment: &'a Assignment,
    outputs: BTreeSet<&'a str>,
    nodes: Vec<Node>,
    initializers: BTreeMap<String, Tensor>,
    /// Names of nodes that were written once and are shared (weights).
    written: BTreeSet<String>,
}

/// How a unit reads a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Float,
    Fp16,
    Quantized,
}

impl<'a> Writer<'a> {
    fn new(prepared: &'a Prepared, assignment: &'a Assignment) -> Self {
        let outputs = prepared.model.graph.output_names().collect();
        Self {
            prepared,
            assignment,
            outputs,
            nodes: Vec::new(),
            initializers: BTreeMap::new(),
            written: BTreeSet::new(),
        }
    }

    fn form(&self, name: &str) -> &Form {
        self.assignment.forms.get(name).unwrap_or(&Form::FLOAT)
    }

    /// Writes a node with its inputs and outputs renamed, and what follows its outputs.
    fn node(&mut self, node: &Node, unit: &UnitSpec) -> Result<(), Error> {
        let inner: BTreeSet<&String> = unit
            .node_idxs
            .iter()
            .flat_map(|&idx| &self.prepared.model.graph.nodes[idx].outputs)
            .collect();
        let mut written = node.clone();
        for name in written.inputs.iter_mut().filter(|name| !name.is_empty()) {
            let inside = inner.contains(name) && !self.leaves_as_form(name);
            *name = if self.prepared.program.constant(name).is_some() {
                self.constant(name, unit)?
            } else if inside {
                name.clone()
            } else {
                self.read(name, unit)
            };
        }
        let mut produced = Vec::new();
        for name in written.outputs.iter_mut().filter(|name| !name.is_empty()) {
            let original = name.clone();
            if self.leaves_as_form(&original) && self.outputs.contains(original.as_str()) {
                *name = format!("{original}_float");
            }
            produced.push((original, name.clone()));
        }
        self.nodes.push(written);
        for (original, name) in produced {
            self.after_value(&original, &name);
        }
        Ok(())
    }

    /// True for a value that passes through Q/DQ or a Cast.
    fn leaves_as_form(&self, name: &str) -> bool {
        matches!(self.form(name), Form::Quantized(_) | Form::Fp16 { .. })
    }

    /// Writes Q/DQ, or the Casts, behind a value; `source` is its name before.
    fn after_value(&mut self, name: &str, source: &str) {
        let is_output = self.outputs.contains(name) && source != name;
        match self.form(name).clone() {
            Form::Quantized(params) => {
                let target = if is_output {
                    name.to_owned()
                } else {
                    format!("{name}_dequantized")
                };
                self.quantize_dequantize(name, source, &params, &target);
            }
            Form::Fp16 { .. } => {
                let target = if is_output {
                    name.to_owned()
                } else {
                    format!("{name}_fp16_float")
                };
                self.cast_both_ways(name, source, &target);
            }
            Form::Float { .. } => {}
        }
    }

    /// The name under which a unit reads a value.
    fn read(&mut self, name: &str, unit: &UnitSpec) -> String {
        let takes_float = unit.float_inputs.iter().any(|float| float == name);
        let reading = match unit.compute {
            UnitCompute::Quantized if !takes_float => Reading::Quantized,
            UnitCompute::Fp16 => Reading::Fp16,
            UnitCompute::Float | UnitCompute::Quantized => Reading::Float,
        };
        let form = self.form(name).clone();
        let is_output = self.outputs.contains(name);
        let stored = match (&form, is_output) {
            (Form::Float { .. }, _) | (_, true) => name.to_owned(),
            (Form::Quantized(_), false) => format!("{name}_dequantized"),
            (Form::Fp16 { .. }, false) => format!("{name}_fp16_float"),
        };
        match (form, reading) {
            (
                Form::Float {
                    cast: Some(Cast::Fixed(params)),
                }
                | Form::Fp16 {
                    cast: Some(Cast::Fixed(params)),
                },
                Reading::Quantized,
            ) => {
                let target = format!("{name}_cast_dequantized");
                if self.written.insert(target.clone()) {
                    self.quantize_dequantize(&format!("{name}_cast"), &stored, &params, &target);
                }
                target
            }
            (Form::Float { cast: Some(_) } | Form::Quantized(_), Reading::Fp16) => {
                let target = format!("{name}_fp16_float");
                if self.written.insert(target.clone()) {
                    self.cast_both_ways(name, &stored, &target);
                }
                target
            }
            _ => stored,
        }
    }

    fn quantize_dequantize(&mut self, name: &str, source: &str, params: &QuantParams, target: &str) {
        let (scale, zero_point) = params
            .as_per_tensor()
            .expect("invariant: activations are quantized per tensor");
        let (scale_name, zero_point_name) = (format!("{name}_scale"), format!("{name}_zero_point"));
        let quantized = format!("{name}_quantized");
        self.initializers
            .insert(scale_name.clone(), Tensor::scalar(scale));
        let zero_point = integers_of(params.dtype(), &[], &[zero_point]);
        self.initializers.insert(
            zero_point_name.clone(),
            zero_point.expect("invariant: one number for a scalar"),
        );
        let (scale, zero_point) = (scale_name.as_str(), zero_point_name.as_str());
        let node_name = |op: &str| format!("{name}_{op}");
        let quantize = Node::new(
            "QuantizeLinear",
            &node_name("QuantizeLinear"),
            &[source, scale, zero_point],
            &[&quantized],
        );
        let inputs = [quantized.as_str(), scale, zero_point];
        let dequantize = Node::new(
            "DequantizeLinear",
            &node_name("DequantizeLinear"),
            &inputs,
            &[target],
        );
        self.nodes.extend([quantize, dequantize]);
    }

    fn cast_both_ways(&mut self, name: &str, source: &str, target: &str) {
        let half = format!("{name}_fp16");
        let to = |dtype: DType| AttributeValue::Int(i64::from(dtype.to_onnx()));
        let down = Node::new("Cast", &format!("{name}_to_fp16"), &[source], &[&half]);
        let up = Node::new("Cast", &format!("{name}_from_fp16"), &[&half], &[target]);
        self.nodes.extend([
            down.with_attribute("to", to(DType::Float16)),
            up.with_attribute("to", to(DType::Float32)),
        ]);
    }

    /// The name under which a unit reads a constant.
    fn constant(&mut self, name: &str, unit: &UnitSpec) -> Result<String, Error> {
        let stored = self
            .prepared
            .program
            .constant(name)
            .expect("invariant: the caller checked")
            .clone();
        if let Some((_, params)) = unit.weights.iter().find(|(weight, _)| weight == name) {
            let target = format!("{name}_dequantized");
            if self.written.insert(target.clone()) {
                let quantized = quantize_linear(&stored, params, Rounding::TiesEven)?;
                self.dequantized_initializer(name, quantized, params, &target)?;
            }
            return Ok(target);
        }
        if matches!(&unit.bias, Some(Bias::Derived(bias)) if bias == name)
            && let Some((quantized, params)) = self.bias(&stored, unit)?
        {
            // One bias may serve units of different scales.
            let key = unit_key(self.prepared, unit);
            let shared = self.prepared.topology.consumers(name).len() > 1;
            let base = if shared {
                format!("{key}_{name}")
            } else {
                name.to_owned()
            };
            let target = format!("{base}_dequantized");
            if self.written.insert(target.clone()) {
                self.dequantized_initializer(&base, quantized, &params, &target)?;
            }
            return Ok(target);
        }
        if unit.compute == UnitCompute::Fp16 && stored.as_slice::<f32>().is_some() {
            let target = format!("{name}_fp16_float");
            if self.written.insert(target.clone()) {
                let half: Vec<half::f16> = stored
                    .require::<f32>()?
                    .iter()
                    .map(|&v| half::f16::from_f32(v))
                    .collect();
                let half_name = format!("{name}_fp16");
                self.initializers
                    .insert(half_name.clone(), Tensor::new(stored.shape(), half)?);
                let up = Node::new("Cast", &format!("{name}_from_fp16"), &[&half_name], &[&target]);
                let to = AttributeValue::Int(i64::from(DType::Float32.to_onnx()));
                self.nodes.push(up.with_attribute("to", to));
            }
            return Ok(target);
        }
        Ok(name.to_owned())
    }

    fn bias(&self, stored: &Tensor, unit: &UnitSpec) -> Result<Option<(Tensor, QuantParams)>, Error> {
        let main = &self.prepared.model.graph.nodes[unit.node_idxs[0]];
        let input = main
            .input(0)
            .and_then(|x| self.form(x).read_params()?.as_per_tensor());
        let (Some((input_scale, _)), Some((_, weight))) = (input, unit.weights.first()) else {
            return Ok(None);
        };
        let (quantized, _) = quantize_bias(stored.require::<f32>()?, input_scale, weight.scale());
        let scale: Vec<f32> = weight.scale().iter().map(|w| input_scale * w).collect();
        let zero_point = vec![0; scale.len()];
        let granularity = match weight.granularity() {
            Granularity::PerTensor => Granularity::PerTensor,
            _ => Granularity::PerChannel {
                axis: stored.rank().saturating_sub(1),
            },
        };
        let params = QuantParams::new(DType::Int32, granularity, scale, zero_point)?;
        Ok(Some((Tensor::new(stored.shape(), quantized)?, params)))
    }

    fn dequantized_initializer(
        &mut self,
        name: &str,
        quantized: Tensor,
        params: &QuantParams,
        target: &str,
    ) -> Result<(), Error> {
        let (node, initializers) = dequantized(name, quantized, params, target, ScaleType::Float32)?;
        self.nodes.push(node);
        self.initializers.extend(initializers);
        Ok(())
    }
}

fn unit_key(prepared: &Prepared, unit: &UnitSpec) -> String {
    let last = unit.node_idxs.last().map(|&idx| &prepared.model.graph.nodes[idx]);
    last.and_then(|n| n.output(0)).unwrap_or_default().to_owned()
}

/// Drops nodes and initializers that nothing uses any more, and types of values that are gone.
pub(crate) fn drop_unused(graph: &mut Graph) {
    let mut used: BTreeSet<String> = graph.output_names().map(str::to_owned).collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (idx, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|o| used.contains(o)) {
            keep[idx] = true;
            used.extend(node.inputs.iter().cloned());
            used.extend(
                node.subgraphs()
                    .flat_map(|(_, g)| g.nodes.iter().flat_map(|n| n.inputs.clone())),
            );
        }
    }
    let mut flags = keep.iter();
    graph.nodes.retain(|_| flags.next() == Some(&true));
    let stored: BTreeSet<String> = graph.initializers.iter().map(|i| i.name.clone()).collect();
    graph.initializers.retain(|i| used.contains(&i.name));
    // Old exporters list initializers among the inputs: those that are gone must not become inputs to feed.
    graph
        .inputs
        .retain(|i| used.contains(&i.name) || !stored.contains(&i.name));
    let produced: BTreeSet<&str> = graph
        .nodes
        .iter()
        .flat_map(|n| n.outputs.iter().map(String::as_str))
        .collect();
    let alive = |info: &ValueInfo| produced.contains(info.name.as_str());
    graph.value_info.retain(alive);
}

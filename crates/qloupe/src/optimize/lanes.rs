//! All tuning samples through the network at once, unit by unit, in float and quantized: what a pass needs that corrects each
//! unit for the errors of those before it.

use std::collections::{BTreeMap, HashMap};

use qloupe_exec::{Assignment, Form, Mode, QuantizedProgram, Stored, UnitSpec, Value, to_real};
use qloupe_ir::{Graph, Initializer, Node, ValueInfo};
use qloupe_tensor::{QuantParams, Tensor};
use rayon::prelude::*;

use crate::Error;
use crate::one_unit::{Changes, OneUnit, program_of};
use crate::plan::n_shared_scales;
use crate::prepare::{Network, Prepared};
use crate::quantize::Quantized;
use crate::units::{UnitGroup, is_product};

/// A product with integer weights and what goes into it.
pub(super) struct Site<'a> {
    /// The node that multiplies.
    pub(super) node: &'a Node,
    /// Which of its inputs is the data.
    pub(super) data_idx: usize,
    pub(super) weight_name: &'a str,
    pub(super) weight: &'a Tensor,
    pub(super) params: &'a QuantParams,
    pub(super) bias: Option<&'a Tensor>,
    /// For each sample, what the unit gets in float and under the plan, as real numbers.
    pub(super) inputs: &'a [(Stored, Stored)],
    network: &'a Network,
    prepared: &'a Prepared,
}

/// What a pass does to a product; nothing where it is `None`.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Other scales of the weight.
    pub(super) params: Option<QuantParams>,
    pub(super) weight: Option<Tensor>,
    pub(super) bias: Option<Tensor>,
}

/// Told of each unit.
pub(super) type Edit<'a> = &'a mut dyn FnMut(&Site<'_>) -> Result<Change, Error>;

/// Walks the units in order; each quantized one runs with the changes of `edit`.
pub(super) fn walk_lanes(
    network: &Network,
    quantized: &Quantized,
    samples: &[Vec<(String, Tensor)>],
    edit: Edit<'_>,
    progress: &dyn Fn(usize, usize),
) -> Result<Changes, Error> {
    let Quantized { prepared, plan, .. } = quantized;
    let assignment = prepared.assignment(plan);
    let mut lanes: Vec<Lane> = samples
        .iter()
        .map(|inputs| Lane::new(inputs, &assignment))
        .collect();
    let mut uses = uses(prepared);
    let mut changes = Changes::default();
    for (idx, (unit, spec)) in prepared.units.iter().zip(&assignment.units).enumerate() {
        let one = OneUnit {
            network,
            prepared,
            unit,
        };
        let float = one.float(&Changes::default())?;
        let mut own = Changes::default();
        if let Some((data_idx, weight_name, params)) = product(prepared, unit, spec) {
            let node = &prepared.program.graph().nodes[unit.main_idx];
            let data = node.input(data_idx).unwrap_or_default();
            let pairs: Option<Vec<(Stored, Stored)>> = lanes.iter().map(|lane| lane.pair(data)).collect();
            if let (Some(inputs), Some(weight)) = (pairs, prepared.program.constant(weight_name)) {
                let bias = unit
                    .bias
                    .as_deref()
                    .and_then(|name| prepared.program.constant(name));
                let site = Site {
                    node,
                    data_idx,
                    weight_name,
                    weight,
                    params,
                    bias,
                    inputs: &inputs,
                    network,
                    prepared,
                };
                let change = edit(&site)?;
                own = site.named(unit, change);
            }
        }
        let under_plan = one.under_plan(spec, assignment.forms.clone(), Mode::Integer, &own)?;
        let step = |lane: &mut Lane| lane.step(network, &float, &under_plan);
        lanes.par_iter_mut().try_for_each(step)?;
        let read: Vec<String> = float.units()[0].inputs().to_vec();
        for name in read {
            let left = uses.entry(name.clone()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                lanes.iter_mut().for_each(|lane| lane.forget(&name));
            }
        }
        changes.constants.extend(own.constants);
        changes.new_biases.extend(own.new_biases);
        changes.params.extend(own.params);
        progress(idx + 1, prepared.units.len());
    }
    Ok(changes)
}

impl Site<'_> {
    /// The product of one sample without activation: data in ONNX order, the result as well.
    pub(super) fn product(&self, data: &Stored, weight: &Tensor) -> Result<Tensor, Error> {
        let mut node = self.node.clone();
        let output = node.outputs[0].clone();
        node.outputs.truncate(1);
        let data_name = node.inputs[self.data_idx].clone();
        let mut initializers = vec![Initializer {
            name: self.weight_name.to_owned(),
            value: weight.clone().into(),
        }];
        if let Some(name) = node.input(2).map(str::to_owned)
            && let Some(bias) = self.prepared.program.constant(&name)
        {
            initializers.push(Initializer {
                name,
                value: bias.clone().into(),
            });
        }
        let graph = Graph {
            nodes: vec![node],
            inputs: vec![ValueInfo::untyped(&data_name)],
            outputs: vec![ValueInfo::untyped(&output)],
            initializers,
            ..Graph::default()
        };
        let located = |e| self.network.located(e);
        let program = program_of(self.prepared, graph).map_err(located)?;
        let mut walk = program
            .walk(vec![(data_name, data.clone())], &[&output])
            .map_err(located)?;
        while walk.step().map_err(located)?.is_some() {}
        Ok(walk.require(&output).map_err(located)?.to_plain().clone())
    }

    /// The axis of the output channels in the result of the product.
    pub(super) fn channel_axis(&self, rank: usize) -> usize {
        if self.node.op_type.starts_with("Conv") {
            1
        } else {
            rank - 1
        }
    }

    /// How many consecutive scales of the weight are one: those of blocks, for all places of the kernel.
    pub(super) fn n_shared_scales(&self) -> usize {
        n_shared_scales(self.node, self.weight.shape(), self.params.granularity())
    }

    /// Scales as the model holds them.
    pub(super) fn stored(&self, params: QuantParams) -> QuantParams {
        self.prepared.target.stored_weight_params(params)
    }

    /// True for a node that takes a bias as its third input.
    pub(super) fn takes_bias(&self) -> bool {
        self.bias.is_some() || !self.node.is_onnx("MatMul")
    }

    fn named(&self, unit: &UnitGroup, change: Change) -> Changes {
        let mut changes = Changes::default();
        if let Some(params) = change.params {
            changes.params.insert(self.weight_name.to_owned(), params);
        }
        if let Some(weight) = change.weight {
            changes.constants.insert(self.weight_name.to_owned(), weight);
        }
        if let Some(bias) = change.bias {
            let name = unit.bias.clone().unwrap_or_else(|| {
                let output = self.node.outputs[0].clone();
                let name = format!("{output}_bias");
                changes.new_biases.insert(output, name.clone());
                name
            });
            changes.constants.insert(name, bias);
        }
        changes
    }
}

/// The data input and the only weight of a unit with integer weights.
fn product<'a>(
    prepared: &'a Prepared,
    unit: &'a UnitGroup,
    spec: &'a UnitSpec,
) -> Option<(usize, &'a str, &'a QuantParams)> {
    let node = &prepared.program.graph().nodes[unit.main_idx];
    let [(weight, params)] = &spec.weights[..] else {
        return None;
    };
    let is_only_use = prepared.topology.consumers(weight).len() == 1;
    if !is_product(node) || !is_only_use {
        return None;
    }
    let data_idx = usize::from(node.input(0) == Some(weight.as_str()));
    Some((data_idx, weight, params))
}

/// One sample on its way: values that later units read.
struct Lane {
    float: HashMap<String, Value>,
    /// In their forms.
    under_plan: HashMap<String, Value>,
    forms: BTreeMap<String, Form>,
}

impl Lane {
    fn new(inputs: &[(String, Tensor)], assignment: &Assignment) -> Self {
        let stored = |tensor: &Tensor| Stored::plain(tensor.clone());
        let form = |name: &str| assignment.forms.get(name).unwrap_or(&Form::FLOAT);
        let in_form = |(name, tensor): &(String, Tensor)| {
            let value = qloupe_exec::to_form(&stored(tensor), form(name), Mode::Integer);
            (name.clone(), value.into())
        };
        Self {
            float: inputs
                .iter()
                .map(|(name, tensor)| (name.clone(), stored(tensor).into()))
                .collect(),
            under_plan: inputs.iter().map(in_form).collect(),
            forms: assignment.forms.clone(),
        }
    }

    /// A value in float and under the plan, as real numbers that a quantized unit reads.
    fn pair(&self, name: &str) -> Option<(Stored, Stored)> {
        let float = self.float.get(name)?.as_tensor()?.clone();
        let value = self.under_plan.get(name)?.as_tensor()?;
        let form = self.forms.get(name)?;
        let read = match form {
            Form::Quantized(_) | Form::Fp16 { cast: None } => to_real(value, form),
            _ => qloupe_exec::to_form(
                value,
                &Form::Quantized(form.read_params()?.clone()),
                Mode::FakeQuant,
            ),
        };
        Some((float, read))
    }

    fn step(
        &mut self,
        network: &Network,
        float: &QuantizedProgram,
        under_plan: &QuantizedProgram,
    ) -> Result<(), Error> {
        for (values, program) in [(&mut self.float, float), (&mut self.under_plan, under_plan)] {
            let unit = &program.units()[0];
            let given: Option<Vec<&Value>> = unit.inputs().iter().map(|name| values.get(name)).collect();
            let Some(given) = given else { continue };
            let results = unit.run(&given).map_err(|e| network.located(e))?;
            values.extend(unit.outputs().iter().cloned().zip(results));
        }
        Ok(())
    }

    fn forget(&mut self, name: &str) {
        self.float.remove(name);
        self.under_plan.remove(name);
    }
}

/// How many units read each value; network outputs are read by nobody here.
fn uses(prepared: &Prepared) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    for unit in &prepared.units {
        let nodes = unit
            .node_idxs
            .iter()
            .map(|&idx| &prepared.program.graph().nodes[idx]);
        let mut read: Vec<&str> = nodes.flat_map(Node::used_values).collect();
        read.sort_unstable();
        read.dedup();
        for name in read {
            *uses.entry(name.to_owned()).or_default() += 1;
        }
    }
    uses
}

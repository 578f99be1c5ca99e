//! From a model file to programs: the golden float program, and the graph that a target executes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qloupe_exec::{
    Assignment, Bias, Cast, Form, Mode, Program, QuantizedProgram, SymDim, UnitCache, UnitCompute, UnitSpec,
};
use qloupe_ir::{Dim, Extra, Model, TensorType, Topology, ValueInfo};
use qloupe_tensor::{DType, Requantize, Tensor};

use crate::Error;
use crate::one_unit::add_biases;
use crate::passes::{
    Fused, Rescale, Scaling, Shift,
    fold_batch_norm::fold_batch_norm,
    rescale_concat,
    resolve_branches::resolve_branches,
    scale_values::{Joins, Rewrite},
    shift_values,
    upgrade_opset::upgrade_opset,
};
use crate::plan::{QuantPlan, WeightPlan};
use crate::shapes::{self, ShapeError};
use crate::targets::{Support, Target};
use crate::units::{UnitGroup, float_inputs, group_units, is_product, is_state, unit_outputs, unit_support};
use crate::value_map::ValueMap;

/// A model as the user gave it, with its golden float program.
#[derive(Debug)]
pub struct Network {
    /// The file, for messages.
    pub file: String,
    /// The model, cropped.
    pub model: Model,
    /// The float program of the whole model.
    pub program: Program,
}

/// What part of a model is wanted.
#[derive(Clone, Debug, Default)]
pub struct Crop {
    /// Values that become the inputs; empty keeps the inputs.
    pub inputs: Vec<String>,
    /// Values that become the outputs; empty keeps the outputs.
    pub outputs: Vec<String>,
}

impl Network {
    /// Prepares a model; `file` is for messages.
    ///
    /// # Errors
    /// All unsupported operators at once, a malformed graph, a stored tensor with NaN. Infinity is let through: masks
    /// hold it.
    pub fn new(file: String, model: Model) -> Result<Self, Error> {
        let program = Program::new(&model).map_err(|source| Error::Exec {
            file: file.clone(),
            source,
        })?;
        for name in model.graph.constants().into_keys() {
            let Some(values) = program.constant(name).and_then(|tensor| tensor.as_slice::<f32>()) else {
                continue;
            };
            let count = values.iter().filter(|v| v.is_nan()).count();
            if count > 0 {
                return Err(Error::NanConstant {
                    file,
                    name: name.to_owned(),
                    count,
                    len: values.len(),
                });
            }
        }
        Ok(Self { file, model, program })
    }

    /// Adds the place to an execution error.
    pub fn located(&self, source: qloupe_exec::ExecError) -> Error {
        Error::Exec {
            file: self.file.clone(),
            source,
        }
    }
}

/// Reads a model, orders its nodes, replaces its functions and the branches it always takes by their nodes, and crops it.
///
/// # Errors
/// A file that is no ONNX model, functions without end, a crop that does not fit.
pub fn load_model(path: &Path, crop: &Crop) -> Result<Model, Error> {
    let file = path.display().to_string();
    let mut model = qloupe_onnx::read_model(path)?;
    model.graph.order_nodes();
    model.inline_functions().map_err(|source| Error::Graph {
        file: file.clone(),
        source,
    })?;
    resolve_branches(&mut model, &BTreeMap::new());
    crop_model(model, &file, crop)
}

/// Crops a model; `file` is for messages.
pub(crate) fn crop_model(mut model: Model, file: &str, crop: &Crop) -> Result<Model, Error> {
    if !crop.inputs.is_empty() || !crop.outputs.is_empty() {
        declare_inferred(&mut model, |name| crop.inputs.iter().any(|input| input == name))
            .map_err(|e| Error::Options(format!("{file}: {e}")))?;
        let cropped = model.graph.crop(&crop.inputs, &crop.outputs);
        cropped.map_err(|source| Error::Graph {
            file: file.to_owned(),
            source,
        })?;
    }
    Ok(model)
}

/// Declares ranks and dtypes that can be inferred of some values: files rarely tell those of values within.
fn declare_inferred(model: &mut Model, wanted: impl Fn(&str) -> bool) -> Result<(), ShapeError> {
    let inferred = shapes::infer(model, &BTreeMap::new())?;
    let graph = &mut model.graph;
    let infos = graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_info);
    let declared: BTreeSet<String> = infos
        .filter(|info| info.tensor_type().is_some())
        .map(|info| info.name.clone())
        .collect();
    for (name, fact) in inferred.facts.into_iter().filter(|(name, _)| wanted(name)) {
        let Some(dims) = fact.shape.as_ref().filter(|_| !declared.contains(&name)) else {
            continue;
        };
        let dim = |d: &SymDim| {
            d.as_known()
                .map_or_else(|| Dim::Symbol(d.to_string()), Dim::Known)
        };
        let shape = Some(dims.iter().map(dim).collect());
        let ty = TensorType {
            dtype: fact.dtype,
            shape,
            extra: Extra::default(),
        };
        graph.value_info.push(ValueInfo::tensor(&name, ty));
    }
    Ok(())
}

/// Refuses a model that is quantized already: quantizing it again would hide its own scales.
///
/// # Errors
/// [`Error::Quantized`] with the first node on integers.
fn refuse_quantized(file: &str, model: &Model) -> Result<(), Error> {
    let nodes = crate::prequantized::quantizing_nodes(model);
    let Some(first) = nodes.first() else { return Ok(()) };
    Err(Error::Quantized {
        file: file.to_owned(),
        what: format!(
            "{} quantizing nodes, the first is \"{}\" ({})",
            nodes.len(),
            first.label(),
            first.op_type
        ),
    })
}

/// Raises the opset. Ranks and dtypes that can be inferred are declared for the time of the upgrade, so that it
/// rewrites no more than it must.
fn upgrade(model: &mut Model, opset: i64) -> Result<Vec<String>, String> {
    let declared = model.graph.value_info.clone();
    declare_inferred(model, |_| true).map_err(|e| e.to_string())?;
    let changes = upgrade_opset(model, opset).map_err(|e| e.to_string());
    model.graph.value_info = declared;
    changes
}

/// The graph that a target executes, grouped into its units.
#[derive(Debug)]
pub struct Prepared {
    /// The target.
    pub target: &'static Target,
    /// The rewritten model.
    pub model: Model,
    /// Its float program.
    pub program: Program,
    /// Who produces and consumes what in it.
    pub topology: Topology,
    /// The units, in execution order.
    pub units: Vec<UnitGroup>,
    /// Values of the original graph that are gone.
    pub fused: Vec<Fused>,
    /// What the opset upgrade changed.
    pub changes: Vec<String>,
    /// Values that passes compute in float whatever the target could do.
    pub in_float: BTreeSet<String>,
    /// Values that differ from those of the original graph, and values that a rewrite inserted.
    pub maps: BTreeMap<String, ValueMap>,
    /// What the file holds, for the twin of a model that is quantized already.
    pub(crate) stored: Option<StoredQuantization>,
    /// Units that were compiled for a plan.
    pub(crate) compiled: UnitCache,
}

/// What the file of a quantized model holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredQuantization {
    /// Its size.
    pub(crate) file_size_bytes: Option<u64>,
    /// Bytes of its stored tensors.
    pub(crate) weight_bytes: u64,
    /// The integers of biases.
    pub(crate) biases: BTreeMap<String, Vec<i32>>,
}

impl Prepared {
    /// Rewrites and groups a network for a target. Level 0 changes no weight and no value.
    ///
    /// # Errors
    /// An opset that cannot be upgraded, a malformed graph.
    pub fn new(network: &Network, target: &'static Target, optimization_level: u8) -> Result<Self, Error> {
        let in_graph = |source| Error::Graph {
            file: network.file.clone(),
            source,
        };
        let mut model = network.model.clone();
        refuse_quantized(&network.file, &model)?;
        let mut changes = Vec::new();
        if let Some(opset) = target.least_opset().filter(|&opset| model.opset() < opset) {
            changes =
                upgrade(&mut model, opset).map_err(|e| Error::Options(format!("{}: {e}", network.file)))?;
        }
        let mut fused = Vec::new();
        if optimization_level > 0 {
            let program = Program::new(&model).map_err(|e| network.located(e))?;
            let topology = Topology::new(&model.graph).map_err(in_graph)?;
            (model.graph, fused) = fold_batch_norm(&program, &topology)?;
        }
        let program = Program::new(&model).map_err(|e| network.located(e))?;
        let topology = Topology::new(&model.graph).map_err(in_graph)?;
        let units = group_units(&program, &topology, target, &BTreeSet::new());
        Ok(Self {
            target,
            model,
            program,
            topology,
            units,
            fused,
            changes,
            in_float: BTreeSet::new(),
            maps: BTreeMap::new(),
            stored: None,
            compiled: UnitCache::default(),
        })
    }

    /// The graph with other constants, and with biases for nodes that had none (their output to the bias).
    ///
    /// # Errors
    /// A constant that does not fit.
    pub(crate) fn with_constants(
        &self,
        network: &Network,
        constants: &BTreeMap<String, Tensor>,
        new_biases: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut model = self.model.clone();
        let graph = &mut model.graph;
        // A constant may be computed by a node.
        graph
            .nodes
            .retain(|node| !node.outputs.iter().any(|output| constants.contains_key(output)));
        for (name, tensor) in constants {
            graph.set_initializer(name, tensor.clone());
        }
        add_biases(&mut graph.nodes, new_biases);
        self.with_model(network, model)
    }

    /// The graph with rescaled Concats; their results come back to their magnitude in float.
    ///
    /// # Errors
    /// A Concat that does not exist.
    pub(crate) fn with_rescales(&self, network: &Network, rescales: &[Rescale]) -> Result<Self, Error> {
        let mut model = self.model.clone();
        let mut maps = BTreeMap::new();
        for rescale in rescales {
            maps.extend(rescale_concat::maps(&model.graph, rescale));
            rescale_concat::rescale_concat(&mut model.graph, rescale)?;
        }
        let mut prepared = self.with_model(network, model)?;
        prepared.maps.extend(maps);
        prepared
            .in_float
            .extend(rescales.iter().map(|rescale| rescale.value.clone()));
        Ok(prepared)
    }

    /// The same graph once more.
    ///
    /// # Errors
    /// None that making this one did not give.
    pub fn copied(&self, network: &Network) -> Result<Self, Error> {
        self.with_model(network, self.model.clone())
    }

    /// The graph with scaled values.
    ///
    /// # Errors
    /// Scales that the graph cannot take.
    pub(crate) fn with_scalings(&self, network: &Network, scalings: &[Scaling]) -> Result<Self, Error> {
        let mut rewrite = Rewrite::new(&self.model.graph, &self.program, Joins::new(&self.model));
        let mut maps: BTreeMap<String, ValueMap> = BTreeMap::new();
        for scaling in scalings {
            let wrong = |what: String| {
                let first = scaling.values.first().map_or("", String::as_str);
                Error::Options(format!("scaling of \"{first}\" by {}: {what}", scaling.pass))
            };
            rewrite.scale(scaling, scalings).map_err(wrong)?;
            for name in &scaling.values {
                let map = ValueMap::scaled(&scaling.pass, name, scaling.axis, scaling.scale.clone());
                if self.maps.contains_key(name) || maps.insert(name.clone(), map).is_some() {
                    return Err(wrong(format!("\"{name}\" is rewritten already")));
                }
            }
        }
        for (name, value) in &rewrite.inserted {
            maps.extend(maps.get(value).cloned().map(|map| (name.clone(), map)));
        }
        let mut model = self.model.clone();
        model.graph = rewrite.finish();
        let mut prepared = self.with_model(network, model)?;
        prepared.maps.extend(maps);
        Ok(prepared)
    }

    /// The graph with shifted values, which may be scaled already.
    ///
    /// # Errors
    /// Shifts that the graph cannot take.
    pub(crate) fn with_shifts(&self, network: &Network, shifts: &[Shift]) -> Result<Self, Error> {
        let mut rewrite = Rewrite::new(&self.model.graph, &self.program, Joins::default());
        let mut maps = self.maps.clone();
        let mut shifted: BTreeSet<&String> = BTreeSet::new();
        for shift in shifts {
            let wrong = |what: String| {
                let first = shift.values.first().map_or("", String::as_str);
                Error::Options(format!("shift of \"{first}\" by {}: {what}", shift.pass))
            };
            rewrite.shift(shift).map_err(wrong)?;
            for name in &shift.values {
                let map = match maps.get(name) {
                    _ if !shifted.insert(name) => Err(format!("\"{name}\" is shifted already")),
                    Some(known) if known.axis != shift_values::AXIS => {
                        Err(format!("\"{name}\" is scaled along another axis"))
                    }
                    Some(known) => Ok(known.shifted(&shift.pass, &shift.shift)),
                    None => Ok(ValueMap {
                        shift: shift.shift.clone(),
                        ..ValueMap::scaled(
                            &shift.pass,
                            name,
                            shift_values::AXIS,
                            vec![1.0; shift.shift.len()],
                        )
                    }),
                };
                maps.insert(name.clone(), map.map_err(wrong)?);
            }
        }
        let mut model = self.model.clone();
        model.graph = rewrite.finish();
        let mut prepared = self.with_model(network, model)?;
        prepared.maps = maps;
        Ok(prepared)
    }

    /// The graph with rescaled Concats, scaled and shifted values, in the order in which passes find them.
    ///
    /// # Errors
    /// What does not fit the graph.
    pub(crate) fn with_rewrites(
        self,
        network: &Network,
        (rescales, scalings, shifts): (&[Rescale], &[Scaling], &[Shift]),
    ) -> Result<Self, Error> {
        let mut prepared = self;
        if !rescales.is_empty() {
            prepared = prepared.with_rescales(network, rescales)?;
        }
        if !scalings.is_empty() {
            prepared = prepared.with_scalings(network, scalings)?;
        }
        if !shifts.is_empty() {
            prepared = prepared.with_shifts(network, shifts)?;
        }
        Ok(prepared)
    }

    /// Another model of the same network for the same target.
    fn with_model(&self, network: &Network, model: Model) -> Result<Self, Error> {
        let program = Program::new(&model).map_err(|e| network.located(e))?;
        let topology = Topology::new(&model.graph).map_err(|source| Error::Graph {
            file: network.file.clone(),
            source,
        })?;
        let units = group_units(&program, &topology, self.target, &BTreeSet::new());
        Ok(Self {
            target: self.target,
            model,
            program,
            topology,
            units,
            fused: self.fused.clone(),
            changes: self.changes.clone(),
            in_float: self.in_float.clone(),
            maps: self.maps.clone(),
            stored: self.stored.clone(),
            compiled: UnitCache::default(),
        })
    }

    /// A number that another graph, or the same with other constants, does not have.
    ///
    /// # Errors
    /// A model that cannot be written.
    pub(crate) fn fingerprint(&self) -> Result<u64, Error> {
        // FNV-1a (Fowler, Noll, Vo), 64 bit.
        let bytes = qloupe_onnx::model_to_bytes(&self.model)?;
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Ok(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }

    /// Groups the float twin of a model that is quantized already: nothing is rewritten, and units end where a value is
    /// quantized. `stored` is what its file holds.
    ///
    /// # Errors
    /// Operators that cannot run, a malformed graph.
    pub(crate) fn of_twin(
        twin: &Network,
        target: &'static Target,
        quantized: &BTreeSet<String>,
        stored: StoredQuantization,
    ) -> Result<Self, Error> {
        let program = Program::new(&twin.model).map_err(|e| twin.located(e))?;
        let topology = Topology::new(program.graph()).map_err(|source| Error::Graph {
            file: twin.file.clone(),
            source,
        })?;
        let mut units = group_units(&program, &topology, target, quantized);
        for unit in &mut units {
            // A bias that the model keeps in float stays so.
            unit.bias = unit.bias.take().filter(|name| stored.biases.contains_key(name));
        }
        Ok(Self {
            target,
            model: twin.model.clone(),
            program,
            topology,
            units,
            fused: Vec::new(),
            changes: Vec::new(),
            in_float: BTreeSet::new(),
            maps: BTreeMap::new(),
            stored: Some(stored),
            compiled: UnitCache::default(),
        })
    }

    /// Network inputs and unit outputs, in execution order: the values that a plan may name.
    pub fn value_names(&self) -> Vec<String> {
        let inputs = self
            .model
            .graph
            .runtime_inputs()
            .into_iter()
            .map(|i| i.name.clone());
        let outputs = self
            .units
            .iter()
            .flat_map(|u| unit_outputs(&self.program, &self.topology, u))
            .map(str::to_owned);
        inputs.chain(outputs).collect()
    }

    /// The weights that a plan may name, in execution order.
    pub fn weight_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.units.iter().flat_map(|u| &u.weights) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// What each unit computes with under a plan.
    pub fn assignment(&self, plan: &QuantPlan) -> Assignment {
        let forms = plan.forms();
        let weights = plan.weights.iter().map(|w| (w.name.as_str(), w)).collect();
        let units = self
            .units
            .iter()
            .map(|unit| self.unit_spec(unit, &weights, &forms))
            .collect();
        Assignment { forms, units }
    }

    fn unit_spec(
        &self,
        unit: &UnitGroup,
        weights: &BTreeMap<&str, &WeightPlan>,
        forms: &BTreeMap<String, Form>,
    ) -> UnitSpec {
        let support = unit_support(unit, &self.program, self.target);
        let outputs = unit_outputs(&self.program, &self.topology, unit);
        let output_forms: Vec<&Form> = outputs
            .iter()
            .filter(|name| !is_state(unit, &self.program, name))
            .filter_map(|name| forms.get(*name))
            .collect();
        let half = output_forms.iter().any(|f| matches!(f, Form::Fp16 { .. }));
        // A recurrent unit of which only the states are used is quantized by its weights.
        let has_output = !output_forms.is_empty() || support == Support::Int8Weights;
        let quantized = has_output && output_forms.iter().all(|f| f.params().is_some());
        let float_inputs = float_inputs(unit, &self.program);
        let readable = unit
            .node_idxs
            .iter()
            .flat_map(|&idx| &self.program.graph().nodes[idx].inputs)
            .filter(|name| !float_inputs.contains(name))
            .filter_map(|name| forms.get(name))
            .all(|form| form.read_params().is_some());
        let requantize = match support {
            Support::Int8(policy) => policy,
            _ => Requantize::FloatScaleZeroPointAfter,
        };
        let dynamic = self.reads_dynamic(unit, forms);
        let compute = if (support.is_integer() && quantized && readable && !half) || dynamic {
            UnitCompute::Quantized
        } else if half || (quantized && support == Support::Fp16) {
            UnitCompute::Fp16
        } else {
            UnitCompute::Float
        };
        let weight = |name: &String| {
            let weight = weights.get(name.as_str())?;
            Some((weight.name.clone(), weight.params.clone()))
        };
        let weights: Vec<_> = if compute == UnitCompute::Quantized {
            unit.weights.iter().filter_map(weight).collect()
        } else {
            Vec::new()
        };
        let bias = unit.bias.as_ref().filter(|_| !weights.is_empty());
        let bias = bias.map(
            |name| match self.stored.as_ref().and_then(|stored| stored.biases.get(name)) {
                Some(integers) => Bias::Stored(name.clone(), integers.clone()),
                None => Bias::Derived(name.clone()),
            },
        );
        UnitSpec {
            node_idxs: unit.node_idxs.clone(),
            compute,
            requantize,
            float_inputs,
            weights,
            bias,
        }
    }

    /// True for a product that quantizes what it reads by the range at hand.
    fn reads_dynamic(&self, unit: &UnitGroup, forms: &BTreeMap<String, Form>) -> bool {
        let main = &self.program.graph().nodes[unit.main_idx];
        let mut read = main.inputs.iter().take(2);
        is_product(main) && read.any(|name| forms.get(name).and_then(Form::cast) == Some(&Cast::Dynamic))
    }

    /// Checks a plan that was read from `file`: it tells the precision of each float value, and each unit that
    /// computes in integers finds scales that fit its weight.
    ///
    /// # Errors
    /// [`Error::Plan`] with the value or the weight.
    pub fn check_plan(&self, file: &str, plan: &QuantPlan) -> Result<(), Error> {
        if let Some(name) = self.value_without_precision(plan) {
            let what = format!("value \"{name}\" is missing, expected a line with its precision");
            return Err(Error::Plan {
                file: file.to_owned(),
                what,
            });
        }
        let wrong = |name: &str, what: String| Error::Plan {
            file: file.to_owned(),
            what: format!("weight \"{name}\"{what}"),
        };
        for (unit, spec) in self.units.iter().zip(self.assignment(plan).units) {
            for name in unit
                .weights
                .iter()
                .filter(|_| spec.compute == UnitCompute::Quantized)
            {
                let Some((_, params)) = spec.weights.iter().find(|(weight, _)| weight == name) else {
                    let output = unit_outputs(&self.program, &self.topology, unit).join(", ");
                    return Err(wrong(
                        name,
                        format!(" is missing, expected its scales as \"{output}\" is quantized"),
                    ));
                };
                let Some(stored) = self.program.constant(name) else {
                    continue;
                };
                params
                    .check_shape(stored.shape())
                    .map_err(|e| wrong(name, format!(": {e}")))?;
                let values = stored.as_slice::<f32>().unwrap_or_default();
                let count = values.iter().filter(|v| !v.is_finite()).count();
                if count > 0 {
                    let len = values.len();
                    let what = format!(
                        ": {count} of {len} elements are infinite, expected numbers that integers can hold"
                    );
                    return Err(wrong(name, what));
                }
            }
        }
        Ok(())
    }

    /// A float value that the outputs depend on and the plan does not name.
    fn value_without_precision(&self, plan: &QuantPlan) -> Option<String> {
        let graph = &self.model.graph;
        let goals: Vec<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
        let needed = self.topology.needed_for(graph, &goals, &BTreeSet::new()).values;
        let inferred = shapes::infer(&self.model, &BTreeMap::new())
            .expect("invariant: no shape is given that could be wrong");
        let is_float =
            |name: &str| inferred.facts.get(name).and_then(|fact| fact.dtype) == Some(DType::Float32);
        let planned: BTreeSet<&str> = plan.values.iter().map(|v| v.name.as_str()).collect();
        let mut names = self.value_names().into_iter();
        names
            .find(|name| needed.contains(name.as_str()) && is_float(name) && !planned.contains(name.as_str()))
    }

    /// The program that runs under a plan.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn quantized(
        &self,
        network: &Network,
        plan: &QuantPlan,
        mode: Mode,
    ) -> Result<QuantizedProgram, Error> {
        QuantizedProgram::with_cache(&self.program, &self.assignment(plan), mode, &self.compiled)
            .map_err(|e| network.located(e))
    }
}

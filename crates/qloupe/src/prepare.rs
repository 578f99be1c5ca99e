//! From a model file to programs: the golden float program, and the graph that a target executes.

mod assign;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qloupe_exec::{Program, SymDim, UnitCache};
use qloupe_ir::{Dim, Extra, Model, TensorType, Topology, ValueInfo};
use qloupe_tensor::Tensor;

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
use crate::shapes::{self, ShapeError};
use crate::targets::Target;
use crate::units::{UnitGroup, group_units, unit_outputs};
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
}

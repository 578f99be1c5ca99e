//! The analysis: the golden run and the run under test in lockstep, every value compared while it is hot.

mod compare;
mod costs;
mod findings;
mod golden;
mod rows;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use qloupe_exec::{Form, Mode, QuantizedProgram, Stored, Tapped, Unit, Value, both, in_pool};
use qloupe_kernels::Tested;
use qloupe_tensor::Tensor;

use crate::Error;
use crate::metrics::{Comparison, Representable};
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::report::{
    Layer, ModelSummary, Output, Phase, Report, Samples, Skipped, Slice, Timing, ValueRange,
};
use crate::samples::Batch;

use compare::{compare, compare_parts};
pub use costs::{CostOptions, measure_costs};
use golden::{Golden, float32, goals, half_values, with_numbers};
use rows::{Row, Rows};
pub(crate) use slices::{SliceSpec, find as find_slices};

/// The views that `analyze` can compute.
pub const VIEWS: &[&str] = &["entire", "local", "tensor"];

/// Which views are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewSet {
    /// Everything quantized.
    pub entire: bool,
    /// One unit quantized, fed golden inputs.
    pub local: bool,
    /// One quantize-dequantize of the golden value.
    pub tensor: bool,
}

impl ViewSet {
    /// The views of a list of names.
    ///
    /// # Errors
    /// [`Error::UnknownChoice`] with all views.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut set = Self {
            entire: false,
            local: false,
            tensor: false,
        };
        for name in names {
            match name {
                "entire" => set.entire = true,
                "local" => set.local = true,
                "tensor" => set.tensor = true,
                _ => return Err(Error::unknown_choice("view", name, VIEWS.iter().copied())),
            }
        }
        Ok(set)
    }
}

/// An analysis in progress: samples stream through it, memory does not grow with them.
#[derive(Debug)]
pub struct Analysis<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    plan: &'a QuantPlan,
    program: Arc<QuantizedProgram>,
    views: ViewSet,
    rows: Rows,
    outputs: Vec<OutputState>,
    /// How many units need a golden value.
    uses: HashMap<String, usize>,
    /// The same names.
    needed: Arc<BTreeSet<String>>,
    /// What the golden run computes: the network outputs, and values that units need but no output does.
    goals: Vec<String>,
    /// Values that the graph under test holds in float16 itself.
    half: BTreeSet<String>,
    n_samples: usize,
    seconds: BTreeMap<&'static str, f64>,
}

#[derive(Debug)]
struct OutputState {
    name: String,
    shape: Vec<usize>,
    whole: Compared,
    slices: Vec<(SliceSpec, Compared)>,
}

/// The comparisons of one value, one for each view.
#[derive(Debug, Default)]
struct Compared {
    entire: Comparison,
    local: Comparison,
    tensor: Comparison,
}

/// A network output of one sample, as real numbers.
struct End {
    golden: Stored,
    test: Stored,
    local: Option<Stored>,
}

/// What a caller may see of every compared value: golden and test as real numbers.
pub trait Tap: Send {
    /// One value of one sample.
    ///
    /// # Errors
    /// What keeps the tap from storing it.
    fn value(&mut self, name: &str, golden: &Tensor, test: &Tensor) -> Result<(), Error>;
}

impl<'a> Analysis<'a> {
    /// Compiles the plan and lists the rows.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn new(
        network: &'a Network,
        prepared: &'a Prepared,
        plan: &'a QuantPlan,
        mode: Mode,
        views: ViewSet,
    ) -> Result<Self, Error> {
        let program = Arc::new(prepared.quantized(network, plan, mode)?);
        let mut uses: HashMap<String, usize> = HashMap::new();
        for name in program
            .units()
            .iter()
            .flat_map(|u| u.inputs().iter().chain(u.outputs()))
        {
            *uses.entry(name.clone()).or_default() += 1;
        }
        let outputs = network.model.graph.outputs.iter().map(|o| OutputState {
            name: o.name.clone(),
            shape: Vec::new(),
            whole: Compared::default(),
            slices: Vec::new(),
        });
        let outputs = outputs.collect();
        let rows = Rows::new(network, prepared);
        let goals = goals(network, &uses)?;
        let half = half_values(prepared);
        Ok(Self {
            network,
            prepared,
            plan,
            program,
            views,
            rows,
            outputs,
            needed: Arc::new(uses.keys().cloned().collect()),
            uses,
            goals,
            half,
            n_samples: 0,
            seconds: BTreeMap::new(),
        })
    }

    /// The program under test.
    pub fn program(&self) -> &QuantizedProgram {
        &self.program
    }

    /// Runs the samples of a batch through both programs and compares them one by one.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub fn observe(&mut self, batch: &Batch, tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        in_pool(|| self.observe_here(batch, tap))
    }

    fn observe_here(&mut self, batch: &Batch, mut tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        let network = self.network;
        let inputs = &batch.inputs;
        let goals: Vec<&str> = self.goals.iter().map(String::as_str).collect();
        let given = inputs
            .iter()
            .map(|(n, t)| (n.clone(), Stored::plain(t.clone())))
            .collect();
        let needed = Arc::clone(&self.needed);
        let walk = network
            .program
            .walk_tapped(given, &goals, Tapped::Only(&needed))
            .map_err(|e| network.located(e))?;
        let mut golden = Golden {
            walk,
            values: HashMap::new(),
            uses: self.uses.clone(),
            seconds: 0.0,
        };
        let mut in_form: HashMap<String, Value> = HashMap::new();
        for (name, tensor) in inputs {
            let stored = Stored::plain(tensor.clone());
            let once = self.compare_input(batch, name, &stored);
            if let Some(tap) = &mut tap {
                tap.value(name, tensor, self.program.to_float(name, &once).to_plain())?;
            }
            golden.keep(name, &stored.into());
            in_form.insert(name.clone(), Value::Tensor(once));
        }
        let program = self.program.clone();
        let mut test = program.walk(inputs).map_err(|e| network.located(e))?;
        let mut ends: BTreeMap<String, End> = BTreeMap::new();
        for unit in program.units() {
            let start = Instant::now();
            let rows = &mut self.rows;
            let (results, advanced) = both(|| test.step(), || golden.advance(unit, rows));
            let results = results
                .map_err(|e| network.located(e))?
                .map(|(_, results)| results)
                .unwrap_or_default();
            advanced.map_err(|e| network.located(e))?;
            *self.seconds.entry("golden and entire").or_default() += start.elapsed().as_secs_f64();
            let start = Instant::now();
            for name in unit.outputs() {
                if let Some(value) = golden.values.get(name) {
                    in_form.insert(name.clone(), self.in_form(name, value));
                }
            }
            let local = if self.views.local {
                self.run_local(unit, &in_form)?
            } else {
                None
            };
            *self.seconds.entry("local").or_default() += start.elapsed().as_secs_f64();
            let start = Instant::now();
            for (idx, (name, result)) in unit.outputs().iter().zip(&results).enumerate() {
                let reference = golden.values.get(name).and_then(Value::as_tensor).cloned();
                let (Some(reference), Some(result)) = (reference, result.as_tensor()) else {
                    continue;
                };
                let local = local.as_ref().and_then(|values| values[idx].as_tensor());
                if let Some(row) = self.rows.get_mut(name) {
                    let form = program.form(name);
                    row.observe_shape(&reference);
                    let once = in_form.get(name).and_then(Value::as_tensor);
                    let views = self.views;
                    let compared = &mut row.compared;
                    let wanted = [
                        (Some(result).filter(|_| views.entire), &mut compared.entire),
                        (local, &mut compared.local),
                        (once.filter(|_| views.tensor), &mut compared.tensor),
                    ];
                    compare(batch, &reference, wanted, form);
                }
                if let Some(tap) = &mut tap {
                    let real = float32(program.to_float(name, result));
                    tap.value(name, reference.to_plain(), real.to_plain())?;
                }
                if self.outputs.iter().any(|output| output.name == *name) {
                    let real = |stored: &Stored| float32(program.to_float(name, stored));
                    let end = End {
                        test: real(result),
                        local: local.map(real),
                        golden: reference,
                    };
                    ends.insert(name.clone(), end);
                }
            }
            *self.seconds.entry("compare").or_default() += start.elapsed().as_secs_f64();
            golden.release(unit);
            in_form.retain(|name, _| golden.values.contains_key(name));
        }
        golden.finish(&mut self.rows).map_err(|e| network.located(e))?;
        self.compare_outputs(batch, ends);
        self.n_samples += batch.n_samples;
        Ok(())
    }

    /// Compares an input with what is left of it after quantization, which it gives back in its form.
    fn compare_input(&mut self, batch: &Batch, name: &str, stored: &Stored) -> Stored {
        let program = &self.program;
        let once = program.to_form(name, stored);
        let views = self.views;
        let Some(row) = self.rows.get_mut(name) else {
            return once;
        };
        row.observe_shape(stored);
        let test = |wanted: bool| wanted.then_some(&once);
        let wanted = [
            (test(views.entire), &mut row.compared.entire),
            (test(views.local), &mut row.compared.local),
            (test(views.tensor), &mut row.compared.tensor),
        ];
        compare(batch, stored, wanted, program.form(name));
        once
    }

    /// The unit on golden inputs in their forms; `None` when a rewrite left it without a golden input.
    fn run_local(&self, unit: &Unit, in_form: &HashMap<String, Value>) -> Result<Option<Vec<Value>>, Error> {
        let rows = unit.outputs().iter().any(|name| self.rows.get(name).is_some());
        let inputs = unit.inputs().iter().map(|name| in_form.get(name).cloned());
        let inputs: Option<Vec<Value>> = inputs.collect();
        match inputs.filter(|_| rows) {
            Some(inputs) => Ok(Some(unit.run(&inputs).map_err(|e| self.network.located(e))?)),
            None => Ok(None),
        }
    }

    /// A golden value in the form that the graph under test has it in.
    fn in_form(&self, name: &str, golden: &Value) -> Value {
        match self.as_stored(name, golden) {
            Value::Tensor(stored) => Value::Tensor(self.program.to_form(name, &stored)),
            other => other,
        }
    }

    /// A golden value in the dtype that the graph under test has it in.
    fn as_stored(&self, name: &str, golden: &Value) -> Value {
        let tensor = golden.as_tensor().filter(|_| self.half.contains(name));
        let numbers = tensor.and_then(|stored| Some((stored, stored.physical().as_slice::<f32>()?)));
        let Some((stored, numbers)) = numbers else {
            return golden.clone();
        };
        let half = numbers.iter().map(|&v| half::f16::from_f32(v)).collect();
        Value::Tensor(with_numbers::<half::f16>(stored, half))
    }

    fn compare_outputs(&mut self, batch: &Batch, ends: BTreeMap<String, End>) {
        for state in &mut self.outputs {
            let Some(End { golden, test, local }) = ends.get(&state.name) else {
                continue;
            };
            if golden.to_plain().as_slice::<f32>().is_none() {
                continue;
            }
            if state.shape.is_empty() {
                state.shape = golden.shape();
                let found = slices::find(
                    &self.network.model.graph,
                    self.rows.shapes(),
                    &state.name,
                    golden.to_plain(),
                );
                state.slices = found
                    .into_iter()
                    .map(|spec| (spec, Compared::default()))
                    .collect();
            }
            let form = self.program.form(&state.name);
            let range = form.params().and_then(Representable::of_params);
            let whole = &mut state.whole;
            let wanted = [
                (Some(test).filter(|_| self.views.entire), &mut whole.entire),
                (local.as_ref(), &mut whole.local),
                (None, &mut whole.tensor),
            ];
            compare(batch, golden, wanted, form);
            // A dynamic output may have another shape in a later sample: its slices stay those of the first.
            for (spec, compared) in state.slices.iter_mut().filter(|_| golden.shape() == state.shape) {
                let reference = spec.cut(golden.to_plain());
                let pairs = [
                    (Some(test).filter(|_| self.views.entire), &mut compared.entire),
                    (local.as_ref(), &mut compared.local),
                ];
                for (value, comparison) in pairs {
                    if let Some(value) = value {
                        let test = spec.cut(value.to_plain());
                        let shape = if spec.axis == 0 { &[][..] } else { &state.shape };
                        let tests = [Tested::Real(&test)];
                        compare_parts(batch, &mut [comparison], shape, (&reference, &tests), range);
                    }
                }
            }
        }
    }

    /// The report of all samples so far, without costs.
    pub fn finish(self) -> Report {
        let graph = &self.network.model.graph;
        let n_params = graph.constants().values().map(|c| c.len()).sum();
        let mut report = Report {
            model: ModelSummary {
                file: self.network.file.clone(),
                opset: self.network.model.opset(),
                n_nodes: graph.nodes.len(),
                n_params,
            },
            target: self.prepared.target.id.to_owned(),
            mode: match (self.prepared.target.activation, self.program.mode()) {
                (None, _) => "fp16",
                (_, Mode::Integer) => "integer",
                (_, Mode::FakeQuant) => "fake-quant",
            }
            .to_owned(),
            plan: self.plan.summary(),
            samples: Samples {
                n: self.n_samples,
                source: String::new(),
                n_calibration: self.plan.n_samples,
            },
            layers: self
                .rows
                .iter()
                .filter(|row| self.is_shown(row))
                .map(|row| self.layer(row))
                .collect(),
            outputs: self.outputs.iter().map(|o| self.output(o)).collect(),
            skipped: self.skipped(),
            notes: self.prepared.target.note.iter().map(|&n| n.to_owned()).collect(),
            timing: Timing {
                total_seconds: 0.0,
                phases: self
                    .seconds
                    .iter()
                    .map(|(&name, &seconds)| Phase {
                        name: name.to_owned(),
                        seconds,
                    })
                    .collect(),
            },
            ..Report::default()
        };
        report.findings = findings::find(&report, self.prepared, self.plan);
        report
    }

    /// False for a value of the float model that a model which is quantized already does not have.
    fn is_shown(&self, row: &Row) -> bool {
        self.prepared.stored.is_none() || row.fused_into.is_some() || !row.is_empty()
    }

    /// The values without a row, with the reason.
    fn skipped(&self) -> Vec<Skipped> {
        let mut skipped = self.rows.skipped();
        let missing = self.rows.iter().filter(|row| !self.is_shown(row));
        skipped.extend(missing.map(|row| Skipped {
            name: row.name.clone(),
            op_type: row.op_type.clone(),
            reason: "the quantized model has no value of this name".to_owned(),
        }));
        if self.prepared.stored.is_some() {
            let known: BTreeSet<&str> = self.network.program.values().collect();
            let outputs = self.program.units().iter().flat_map(|unit| unit.outputs());
            let unknown = outputs.filter(|name| !known.contains(name.as_str()));
            skipped.extend(unknown.map(|name| Skipped {
                name: name.clone(),
                op_type: String::new(),
                reason: "the float model has no value of this name".to_owned(),
            }));
        }
        skipped
    }

    fn layer(&self, row: &Row) -> Layer {
        let form = self.program.form(&row.name);
        let entry = self.plan.value(&row.name);
        let (scale, zero_point) = form.params().map_or((Vec::new(), Vec::new()), |p| {
            (p.scale().to_vec(), p.zero_point().to_vec())
        });
        let dtype = match form {
            Form::Quantized(params) => params.dtype().name(),
            Form::Fp16 { .. } => "float16",
            Form::Float { .. } => "float32",
        };
        Layer {
            name: row.name.clone(),
            op_type: row.op_type.clone(),
            node: row.node.clone(),
            unit: row.unit.clone(),
            fused_into: row.fused_into.clone(),
            reason: row.reason(),
            dtype: if row.fused_into.is_some() {
                String::new()
            } else {
                dtype.to_owned()
            },
            shape: row.shape.clone(),
            scale,
            zero_point,
            range: entry.and_then(|e| e.range).map(|r| ValueRange {
                min: f64::from(r.min),
                max: f64::from(r.max),
            }),
            n_nan: row.compared.entire.n_nan(),
            n_infinite: row.compared.entire.n_infinite(),
            views: row.compared.views(),
            provenance: row.provenance.clone(),
            ..Layer::default()
        }
    }

    fn output(&self, state: &OutputState) -> Output {
        let slice = |(spec, compared): &(SliceSpec, Compared)| Slice {
            axis: spec.axis,
            start: spec.start,
            end: spec.end,
            label: spec.label.clone(),
            dead: compared.entire.is_dead(),
            views: compared.views(),
        };
        Output {
            name: state.name.clone(),
            shape: state.shape.clone(),
            dead: state.whole.entire.is_dead(),
            reason: state
                .shape
                .is_empty()
                .then(|| "not a float value, or a constant".to_owned()),
            views: state.whole.views(),
            slices: state.slices.iter().map(slice).collect(),
            runtime: None,
        }
    }
}

impl Compared {
    fn views(&self) -> crate::report::Views {
        crate::report::Views {
            entire: self.entire.finish(),
            local: self.local.finish(),
            tensor: self.tensor.finish(),
            ..Default::default()
        }
    }
}

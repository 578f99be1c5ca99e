//! The analysis: the golden run and the run under test in lockstep, every value compared while it is hot.

mod costs;
mod findings;
mod golden;
mod rows;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use qloupe_exec::{Form, Mode, QuantizedProgram, Stored, Unit, Value};
use qloupe_tensor::Tensor;

use crate::Error;
use crate::metrics::{Comparison, Representable};
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::report::{
    Layer, ModelSummary, Output, Phase, Report, Samples, Skipped, Slice, Timing, ValueRange,
};
use crate::samples::Batch;

pub use costs::{CostOptions, measure_costs};
use golden::{Golden, float32, goals, half_values, with_numbers};
use rows::{Row, Rows};
use slices::SliceSpec;

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
    program: QuantizedProgram,
    views: ViewSet,
    rows: Rows,
    outputs: Vec<OutputState>,
    /// How many units need a golden value.
    uses: HashMap<String, usize>,
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

/// What a caller may see of every compared value: golden and test as real numbers.
pub trait Tap {
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
        let program = prepared.quantized(network, plan, mode)?;
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
    pub fn observe(&mut self, batch: &Batch, mut tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        let network = self.network;
        let inputs = &batch.inputs;
        let goals: Vec<&str> = self.goals.iter().map(String::as_str).collect();
        let given = inputs
            .iter()
            .map(|(n, t)| (n.clone(), Stored::plain(t.clone())))
            .collect();
        let walk = network
            .program
            .walk(given, &goals)
            .map_err(|e| network.located(e))?;
        let mut golden = Golden {
            walk,
            values: HashMap::new(),
            uses: self.uses.clone(),
            seconds: 0.0,
        };
        for (name, tensor) in inputs {
            let stored = Stored::plain(tensor.clone());
            let test = self.compare_input(batch, name, &stored);
            if let Some(tap) = &mut tap {
                tap.value(name, tensor, test.to_plain())?;
            }
            golden.keep(name, &stored.into());
        }
        let mut test = self.program.walk(inputs).map_err(|e| network.located(e))?;
        let mut ends: BTreeMap<String, (Stored, Stored, Option<Stored>)> = BTreeMap::new();
        loop {
            let start = Instant::now();
            let Some((unit, results)) = test.step().map_err(|e| network.located(e))? else {
                break;
            };
            *self.seconds.entry("entire").or_default() += start.elapsed().as_secs_f64();
            golden
                .advance(unit, &mut self.rows)
                .map_err(|e| network.located(e))?;
            let start = Instant::now();
            let local = if self.views.local {
                self.run_local(unit, &golden)?
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
                let test_value = float32(self.program.to_float(name, result));
                let local_value = local
                    .as_ref()
                    .and_then(|l| Some(float32(self.program.to_float(name, l[idx].as_tensor()?))));
                if let Some(row) = self.rows.get_mut(name) {
                    let form = self.program.form(name);
                    let range = form.params().and_then(Representable::of_params);
                    row.observe_shape(&reference);
                    if self.views.entire {
                        compare(batch, &mut row.compared.entire, &reference, &test_value, range);
                    }
                    if let Some(local_value) = &local_value {
                        compare(batch, &mut row.compared.local, &reference, local_value, range);
                    }
                    if self.views.tensor {
                        let once = self
                            .program
                            .to_float(name, &self.program.to_form(name, &reference));
                        compare(batch, &mut row.compared.tensor, &reference, &once, range);
                    }
                }
                if let Some(tap) = &mut tap {
                    tap.value(name, reference.to_plain(), test_value.to_plain())?;
                }
                if self.outputs.iter().any(|output| output.name == *name) {
                    ends.insert(name.clone(), (reference, test_value, local_value));
                }
            }
            *self.seconds.entry("compare").or_default() += start.elapsed().as_secs_f64();
            golden.release(unit);
        }
        golden.finish(&mut self.rows).map_err(|e| network.located(e))?;
        *self.seconds.entry("golden").or_default() += golden.seconds;
        self.compare_outputs(batch, ends);
        self.n_samples += batch.n_samples;
        Ok(())
    }

    /// Compares an input with what is left of it after quantization, which it gives back.
    fn compare_input(&mut self, batch: &Batch, name: &str, stored: &Stored) -> Stored {
        let form = self.program.form(name);
        let range = form.params().and_then(Representable::of_params);
        let once = self.program.to_float(name, &self.program.to_form(name, stored));
        let views = self.views;
        let Some(row) = self.rows.get_mut(name) else {
            return once;
        };
        row.observe_shape(stored);
        let wanted = [
            (views.entire, &mut row.compared.entire),
            (views.local, &mut row.compared.local),
            (views.tensor, &mut row.compared.tensor),
        ];
        for (_, comparison) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            compare(batch, comparison, stored, &once, range);
        }
        once
    }

    /// The unit on golden inputs; `None` when a rewrite left it without a golden input.
    fn run_local(&self, unit: &Unit, golden: &Golden<'_>) -> Result<Option<Vec<Value>>, Error> {
        let rows = unit.outputs().iter().any(|name| self.rows.get(name).is_some());
        let inputs: Option<Vec<Value>> = unit
            .inputs()
            .iter()
            .map(|name| Some(self.as_stored(name, golden.values.get(name)?)))
            .collect();
        match inputs.filter(|_| rows) {
            Some(inputs) => Ok(Some(
                unit.run_on_float(&inputs).map_err(|e| self.network.located(e))?,
            )),
            None => Ok(None),
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

    fn compare_outputs(&mut self, batch: &Batch, ends: BTreeMap<String, (Stored, Stored, Option<Stored>)>) {
        for state in &mut self.outputs {
            let Some((golden, test, local)) = ends.get(&state.name) else {
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
            let range = self
                .program
                .form(&state.name)
                .params()
                .and_then(Representable::of_params);
            if self.views.entire {
                compare(batch, &mut state.whole.entire, golden, test, range);
            }
            if let Some(local) = local {
                compare(batch, &mut state.whole.local, golden, local, range);
            }
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
                        compare_parts(batch, comparison, shape, (&reference, &test), range);
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

/// Compares two float values in whichever order the test is stored; other dtypes are no rows.
fn compare(
    batch: &Batch,
    comparison: &mut Comparison,
    reference: &Stored,
    test: &Stored,
    range: Option<Representable>,
) {
    let reference = reference.in_layout(test.layout());
    let (Some(a), Some(b)) = (reference.as_slice::<f32>(), test.physical().as_slice::<f32>()) else {
        return;
    };
    if a.len() == b.len() {
        compare_parts(batch, comparison, reference.shape(), (a, b), range);
    }
}

/// Compares each sample of two values of one length. Samples are outermost in every order of storage.
fn compare_parts(
    batch: &Batch,
    comparison: &mut Comparison,
    shape: &[usize],
    (reference, test): (&[f32], &[f32]),
    range: Option<Representable>,
) {
    let pairs = batch
        .parts(shape, reference)
        .into_iter()
        .zip(batch.parts(shape, test));
    for (reference, test) in pairs {
        comparison
            .observe(reference, test, range)
            .expect("invariant: the lengths are equal");
    }
}

//! What the local error of a unit is made of: the unit runs on golden inputs with one source of error at a time.

mod about;
mod channels;
mod error_of;
mod finish;
mod halves;
mod weights;

use std::collections::BTreeMap;

use qloupe_exec::{
    Bias, ExecError, Form, Mode, QuantizedProgram, Stored, UnitCompute, Value, to_form, to_real,
};
use qloupe_ir::Node;
use qloupe_tensor::{QuantParams, Tensor, quantize_bias};

use super::source::Context;
use super::twin::FloatTwin;
use crate::Error;
use crate::one_unit::{Changes, OneUnit};
use crate::prepare::Prepared;

pub(super) use about::About;
use about::calibrated;
use error_of::{Part, error_energy, part_of_rounding};
pub(super) use finish::Totals;
use weights::split_weight;

/// Error beyond this many times that of plain ranges could be avoided by them: a scale twice as large as it need be.
const AVOIDABLE: f64 = 4.0;
/// Where error comes from, in the order of [`Energies::parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    WeightRounding,
    WeightClipping,
    WeightSpread,
    Bias,
    InputRounding,
    InputClipping,
    OutputRounding,
    OutputClipping,
    OutputSpread,
    Arithmetic,
    Fp16Rounding,
    Fp16Overflow,
    Fp16Underflow,
    Computation,
}

impl Origin {
    pub(super) const ALL: [Self; 14] = [
        Self::WeightRounding,
        Self::WeightClipping,
        Self::WeightSpread,
        Self::Bias,
        Self::InputRounding,
        Self::InputClipping,
        Self::OutputRounding,
        Self::OutputClipping,
        Self::OutputSpread,
        Self::Arithmetic,
        Self::Fp16Rounding,
        Self::Fp16Overflow,
        Self::Fp16Underflow,
        Self::Computation,
    ];
}

/// Energies of one sample at the outputs of a unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Energies {
    /// That of the golden outputs.
    pub(super) reference: f64,
    /// That of the local error.
    pub(super) local: f64,
    /// One for each of [`Origin::ALL`].
    pub(super) parts: [f64; 14],
    /// Elements of the outputs, and those of them that the plan cannot hold.
    pub(super) n_outputs: u64,
    pub(super) n_clipped: u64,
    /// The same of quantized inputs.
    pub(super) n_inputs: u64,
    pub(super) n_inputs_clipped: u64,
    /// The smallest and the largest golden output.
    pub(super) range: Option<(f32, f32)>,
    /// How far each channel of the output reaches; empty where it has none that are known.
    channels: Vec<(f32, f32)>,
    /// Golden outputs that are not zero: on a grid that holds 0 they alone are rounded.
    pub(super) n_nonzero: u64,
}

impl Energies {
    fn add(&mut self, origin: Origin, energy: f64) {
        self.parts[origin as usize] += energy;
    }
}

/// A unit, ready to run with one source of error at a time.
#[derive(Debug)]
pub(super) struct Split {
    /// The same nodes that the plan runs, on the constants of the user's model.
    clean: QuantizedProgram,
    /// With changed weights or a changed bias.
    changed: Vec<(Origin, QuantizedProgram)>,
    /// Under the plan, in float arithmetic and in integers.
    local: QuantizedProgram,
    integer: Option<QuantizedProgram>,
    inputs: Vec<(String, Form)>,
    outputs: Vec<(String, Form)>,
    /// The node that the others of the unit stand around.
    main: Node,
    /// What words are made of.
    pub(super) about: About,
}

impl Split {
    /// Compiles the unit at a place of a prepared graph.
    ///
    /// # Errors
    /// Parameters that do not fit.
    pub(super) fn new(context: &Context<'_>, unit_idx: usize) -> Result<Self, Error> {
        let Context {
            network,
            prepared,
            plan,
            assignment,
            reference,
            ..
        } = *context;
        let unit = &prepared.units[unit_idx];
        let spec = assignment.units[unit_idx].clone();
        let forms = context.forms_of(unit);
        let one = OneUnit {
            network,
            prepared,
            unit,
        };
        let none = Changes::default();
        let local = one.under_plan(&spec, forms.clone(), Mode::FakeQuant, &none)?;
        let form = |name: &String| forms.get(name).cloned().unwrap_or(Form::FLOAT);
        let read: Vec<String> = local.units()[0].inputs().to_vec();
        let written: Vec<String> = local.units()[0].outputs().to_vec();
        let is_quantized = spec.compute == UnitCompute::Quantized;
        let reads_quantized = |name: &&String| is_quantized && !spec.float_inputs.contains(name);
        let inputs: Vec<(String, Form)> = read
            .iter()
            .filter(reads_quantized)
            .filter_map(|name| Some((name.clone(), Form::Quantized(form(name).read_params()?.clone()))))
            .collect();
        let own = |name: &str| {
            reference
                .get(name)
                .or_else(|| prepared.program.constant(name))
                .cloned()
        };
        let clean_changes = Changes {
            constants: reference.clone(),
            ..Changes::default()
        };
        let mut split = Self {
            clean: one.float(&clean_changes)?,
            changed: Vec::new(),
            integer: None,
            inputs,
            main: prepared.program.graph().nodes[unit.main_idx].clone(),
            outputs: written.iter().map(|name| (name.clone(), form(name))).collect(),
            about: About {
                is_product: !spec.weights.is_empty(),
                params: written.iter().find_map(|name| form(name).params().cloned()),
                calibrated: written.first().and_then(|name| calibrated(plan, name)),
                ..About::default()
            },
            local,
        };
        let with = |name: &str, tensor: Tensor| {
            let mut changes = clean_changes.clone();
            changes.constants.insert(name.to_owned(), tensor);
            one.float(&changes)
        };
        for (name, params) in &spec.weights {
            let (Some(weight), Some(stored)) = (own(name), prepared.program.constant(name)) else {
                continue;
            };
            let parts = split_weight(prepared, unit, name, (&weight, stored), params)?;
            for (origin, tensor) in parts.changed {
                split.changed.push((origin, with(name, tensor)?));
            }
            split.about.weights.merge(parts.about);
        }
        let scales = bias_scales(&spec.weights, &local_input(&split, &form));
        if let Some((name, quantized)) = quantized_bias(prepared, &spec.bias, scales.as_deref()) {
            let is_corrected = plan.optimized.constants.contains_key(&name);
            if let (Some(bias), Some(scales), false) = (own(&name), &scales, is_corrected) {
                split.about.bias_excess = bias_excess(&bias, &quantized, scales);
            }
            split.changed.push((Origin::Bias, with(&name, quantized)?));
        }
        if spec.compute == UnitCompute::Fp16 {
            let is_integer = |name: &&String| spec.weights.iter().any(|(weight, _)| weight == *name);
            let weights = unit.weights.iter().filter(|name| !is_integer(name));
            let weights = weights.filter_map(|name| Some((name, own(name)?)));
            for (origin, constants) in halves::split_weights(weights) {
                let mut changes = clean_changes.clone();
                changes.constants.extend(constants);
                split.changed.push((origin, one.float(&changes)?));
            }
        }
        if is_quantized {
            let integer = one.under_plan(&spec, forms, Mode::Integer, &none)?;
            let has_kernel = integer.units()[0].integer_kernel().is_some();
            split.integer = has_kernel.then_some(integer);
        }
        Ok(split)
    }

    /// The energies of one sample. `float` is the unit without any error, `golden` gives values in the units of the graph under test.
    pub(super) fn run(
        &self,
        float: &FloatTwin,
        golden: &mut dyn FnMut(&str) -> Result<Value, ExecError>,
    ) -> Result<Energies, ExecError> {
        let mut energies = Energies::default();
        let reference = float.run(&mut *golden)?;
        let reference: BTreeMap<String, Value> = reference.into_iter().collect();
        let unit = &self.local.units()[0];
        let mut given: BTreeMap<String, Value> = BTreeMap::new();
        for name in unit.inputs() {
            given.insert(name.clone(), golden(name)?);
        }
        let clean = run(&self.clean, &given)?;
        energies.add(Origin::Computation, distance(&reference, &clean));
        for (origin, program) in &self.changed {
            let energy = distance(&clean, &run(program, &given)?);
            energies.add(*origin, energy);
        }
        self.run_inputs(&given, &clean, &mut energies)?;
        for (name, form) in &self.outputs {
            if let Some(stored) = reference.get(name).and_then(Value::as_tensor) {
                add_rounding(stored, form, &mut energies);
                let axis = channels::channel_axis(&self.main, stored.shape().len());
                if let (Some(axis), [_], Form::Quantized(_)) = (axis, &self.outputs[..], form) {
                    energies.channels = channels::ranges(stored, axis);
                }
            }
        }
        let once: BTreeMap<String, Value> = given
            .iter()
            .map(|(name, value)| (name.clone(), self.read(name, value, Mode::FakeQuant)))
            .collect();
        let local = run(&self.local, &once)?;
        energies.local = distance(&reference, &local);
        if let Some(program) = &self.integer {
            let once: BTreeMap<String, Value> = given
                .iter()
                .map(|(name, value)| (name.clone(), self.read(name, value, Mode::Integer)))
                .collect();
            let integer = run(program, &once)?;
            energies.local = distance(&reference, &integer);
            energies.add(Origin::Arithmetic, distance(&local, &integer));
        }
        Ok(energies)
    }

    /// A golden value as it arrives.
    fn read(&self, name: &str, value: &Value, mode: Mode) -> Value {
        let form = self.local.form(name);
        match value.as_tensor() {
            Some(stored) => to_form(stored, form, mode).into(),
            None => value.clone(),
        }
    }

    /// Rounded inputs and clipped ones.
    fn run_inputs(
        &self,
        given: &BTreeMap<String, Value>,
        clean: &BTreeMap<String, Value>,
        energies: &mut Energies,
    ) -> Result<(), ExecError> {
        if self.inputs.is_empty() {
            return Ok(());
        }
        for (origin, part) in [
            (Origin::InputRounding, Part::Rounding),
            (Origin::InputClipping, Part::Clipping),
        ] {
            let mut changed = given.clone();
            let mut n_clipped = 0;
            for (name, form) in &self.inputs {
                let Some(stored) = given.get(name).and_then(Value::as_tensor) else {
                    continue;
                };
                let once = to_form(stored, form, Mode::FakeQuant);
                let (kept, clipped, n) = part_of_rounding(stored, &once, form, part);
                n_clipped += clipped;
                if part == Part::Clipping {
                    energies.n_inputs += n;
                    energies.n_inputs_clipped += clipped;
                }
                changed.insert(name.clone(), kept.into());
            }
            if part == Part::Rounding || n_clipped > 0 {
                energies.add(origin, distance(clean, &run(&self.clean, &changed)?));
            }
        }
        Ok(())
    }
}

/// The energies of a network input.
pub(super) fn input_energies(stored: &Stored, form: &Form) -> Energies {
    let mut energies = Energies::default();
    add_rounding(stored, form, &mut energies);
    energies.local = error_energy(stored, &to_real(&to_form(stored, form, Mode::FakeQuant), form));
    energies
}

/// What is lost when a golden value is brought into its form.
fn add_rounding(stored: &Stored, form: &Form, energies: &mut Energies) {
    let Some(values) = stored.physical().as_slice::<f32>() else {
        return;
    };
    for &v in values.iter().filter(|v| v.is_finite()) {
        energies.reference += f64::from(v) * f64::from(v);
        let (min, max) = energies.range.unwrap_or((v, v));
        energies.range = Some((min.min(v), max.max(v)));
        energies.n_nonzero += u64::from(v != 0.0);
    }
    let once = to_form(stored, form, Mode::FakeQuant);
    match form {
        Form::Quantized(_) => {
            for (origin, part) in [
                (Origin::OutputRounding, Part::Rounding),
                (Origin::OutputClipping, Part::Clipping),
            ] {
                let (kept, clipped, n) = part_of_rounding(stored, &once, form, part);
                energies.add(origin, error_energy(stored, &kept));
                if part == Part::Clipping {
                    energies.n_outputs += n;
                    energies.n_clipped += clipped;
                }
            }
        }
        Form::Fp16 { .. } => {
            let half = once.physical().as_slice::<f32>().unwrap_or_default();
            for (&v, &h) in values.iter().zip(half).filter(|(v, _)| v.is_finite()) {
                let (origin, energy) = halves::loss(v, h);
                energies.add(origin, energy);
                energies.n_outputs += 1;
                energies.n_clipped += u64::from(h.is_infinite());
            }
        }
        Form::Float { .. } => {}
    }
}

/// The form of the first input of a unit.
fn local_input(split: &Split, form: &dyn Fn(&String) -> Form) -> Option<QuantParams> {
    let unit = &split.local.units()[0];
    let first = unit.inputs().first()?;
    form(first).read_params().cloned()
}

/// The scale of each element of a bias: that of the input times that of the weight; one element where all are equal.
fn bias_scales(weights: &[(String, QuantParams)], input: &Option<QuantParams>) -> Option<Vec<f32>> {
    let (input_scale, _) = input.as_ref()?.as_per_tensor()?;
    let scales = weights.first()?.1.scale();
    Some(scales.iter().map(|scale| input_scale * scale).collect())
}

/// The bias as the plan has it, as real numbers.
fn quantized_bias(
    prepared: &Prepared,
    bias: &Option<Bias>,
    scales: Option<&[f32]>,
) -> Option<(String, Tensor)> {
    let name = match bias.as_ref()? {
        Bias::Stored(name, _) => return Some((name.clone(), prepared.program.constant(name)?.clone())),
        Bias::Derived(name) => name,
    };
    let stored = prepared.program.constant(name)?;
    let scales = scales?;
    let (quantized, _) = quantize_bias(stored.as_slice::<f32>()?, 1.0, scales);
    let real = quantized
        .iter()
        .enumerate()
        .map(|(channel, &q)| q as f32 * at(scales, channel));
    let real = Tensor::new(stored.shape(), real.collect::<Vec<f32>>()).ok()?;
    Some((name.clone(), real))
}

fn at(scales: &[f32], channel: usize) -> f32 {
    scales[if scales.len() == 1 {
        0
    } else {
        channel.min(scales.len() - 1)
    }]
}

/// The error of a bias over what rounding to its scale makes: a twelfth of a squared step for each element.
fn bias_excess(bias: &Tensor, quantized: &Tensor, scales: &[f32]) -> f64 {
    let pair = bias.as_slice::<f32>().zip(quantized.as_slice::<f32>());
    let Some((bias, quantized)) = pair else { return 0.0 };
    let error: f64 = bias
        .iter()
        .zip(quantized)
        .map(|(&b, &q)| (f64::from(b) - f64::from(q)).powi(2))
        .sum();
    let rounding: f64 = (0..bias.len())
        .map(|channel| f64::from(at(scales, channel)).powi(2) / 12.0)
        .sum();
    error / rounding.max(f64::MIN_POSITIVE)
}

/// The outputs of a program of one unit as real numbers.
fn run(
    program: &QuantizedProgram,
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, ExecError> {
    let unit = &program.units()[0];
    let inputs = unit.inputs().iter().map(|name| {
        given.get(name).ok_or_else(|| ExecError::UnknownValue {
            name: name.clone(),
            help: String::new(),
        })
    });
    let inputs: Vec<&Value> = inputs.collect::<Result<_, _>>()?;
    let results = unit.run(&inputs)?;
    let real = |(name, value): (&String, Value)| {
        let real = value.as_tensor().map(|stored| program.to_float(name, stored));
        (name.clone(), real.map_or(value, Value::from))
    };
    Ok(unit.outputs().iter().zip(results).map(real).collect())
}

/// The energy of the difference of two sets of values.
fn distance(reference: &BTreeMap<String, Value>, test: &BTreeMap<String, Value>) -> f64 {
    let of = |(name, value): (&String, &Value)| -> Option<f64> {
        let stored: &Stored = value.as_tensor()?;
        Some(error_energy(stored, test.get(name)?.as_tensor()?))
    };
    reference.iter().filter_map(of).sum()
}

//! `auto`: every algorithm proposes a range for every value, and the units that read the value decide.
//!
//! On golden inputs, each unit runs once for each proposal of each of its inputs: the cost of a proposal is the squared error
//! that it makes at the outputs of the units which read it, relative to their energy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qloupe_exec::{
    Assignment, Cast, Form, Mode, QuantizedProgram, Stored, UnitCompute, UnitSpec, Value, to_form,
};
use qloupe_tensor::{QuantParams, QuantScheme, Range, Requantize, Tensor, params_from_range};
use rayon::prelude::*;

use crate::Error;
use crate::calibrate::{self, Sketch, Statistics, percentile};
use crate::plan::{Precision, QuantPlan, ValuePlan, fit_biases};
use crate::prepare::{Network, Prepared};

/// Parts of all elements that percentiles keep inside, beside that of the algorithm.
const PERCENTILES: &[(&str, f64)] = &[("percentile 99.9", 0.999), ("percentile 99.99", 0.9999)];

/// One range that is tried for a value.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    /// The first algorithm that made it.
    pub(super) algorithm: String,
    pub(super) range: Range,
    pub(super) params: QuantParams,
}

/// The proposals of one value with what each costs.
#[derive(Clone, Debug)]
pub(super) struct Race {
    pub(super) proposals: Vec<Proposal>,
    /// Relative squared error at the outputs of consumers, summed over consumers.
    pub(super) costs: Vec<f64>,
}

impl Race {
    /// The place of the cheapest proposal; the first where several are.
    pub(super) fn winner(&self) -> usize {
        let mut best = 0;
        if let Some(x) = std::env::var("QL_X").ok().and_then(|x| x.parse::<f64>().ok()) {
            let first = std::env::var("QL_A").unwrap_or("percentile".into());
            best = self.proposals.iter().position(|p| p.algorithm == first).unwrap_or(0);
            let base = self.costs[best];
            for (idx, cost) in self.costs.iter().enumerate() {
                if *cost < self.costs[best] && *cost < x * base && self.proposals[idx].algorithm != "moving_average" {
                    best = idx;
                }
            }
            return best;
        }
        for (idx, cost) in self.costs.iter().enumerate() {
            if *cost < self.costs[best] {
                best = idx;
            }
        }
        best
    }

    /// The choice in words: `mse (noise at consumers: mse 0.12%, min_max 0.40%)`.
    pub(super) fn describe(&self) -> String {
        let winner = self.winner();
        let root = |cost: f64| cost.max(0.0).sqrt() * 100.0;
        let figure = |idx: usize| format!("{} {:.3}%", self.proposals[idx].algorithm, root(self.costs[idx]));
        let others = (0..self.costs.len()).filter(|&idx| idx != winner);
        let figures: Vec<String> = std::iter::once(winner).chain(others).map(figure).collect();
        figures.join(", ")
    }
}

/// Lets the proposals of every quantized value compete on samples.
pub(super) fn race(
    network: &Network,
    prepared: &Prepared,
    plan: &QuantPlan,
    statistics: &Statistics,
    samples: &[Vec<(String, Tensor)>],
    scheme: &QuantScheme,
) -> Result<BTreeMap<String, Race>, Error> {
    let proposals = proposals(plan, statistics, scheme)?;
    let program = float_units(network, prepared)?;
    let roots: BTreeMap<String, String> = plan
        .values
        .iter()
        .map(|value| (value.name.clone(), root(plan, value).to_owned()))
        .collect();
    let track = Track {
        network,
        program: &program,
        plan,
        roots: &roots,
        proposals: &proposals,
    };
    let of_samples = samples
        .par_iter()
        .map(|inputs| track.run(inputs))
        .collect::<Result<Vec<Energies>, Error>>()?;
    let mut sums: Energies = BTreeMap::new();
    for (key, energy) in of_samples.into_iter().flatten() {
        let sum = sums.entry(key).or_insert_with(|| Energy::none(energy.noise.len()));
        sum.add(&energy);
    }
    let mut races: BTreeMap<String, Race> = proposals
        .iter()
        .map(|(name, proposals)| {
            let race = Race {
                proposals: proposals.clone(),
                costs: vec![0.0; proposals.len()],
            };
            (name.clone(), race)
        })
        .collect();
    for ((name, _), energy) in sums {
        let Some(race) = races.get_mut(&name) else { continue };
        for (cost, noise) in race.costs.iter_mut().zip(&energy.noise) {
            *cost += noise / energy.signal.max(f64::MIN_POSITIVE);
        }
    }
    Ok(races)
}

/// Every unit of a prepared graph in float.
pub(super) fn float_units(network: &Network, prepared: &Prepared) -> Result<QuantizedProgram, Error> {
    let unit = |unit: &crate::units::UnitGroup| UnitSpec {
        node_idxs: unit.node_idxs.clone(),
        compute: UnitCompute::Float,
        requantize: Requantize::FloatScaleZeroPointAfter,
        float_inputs: Vec::new(),
        weights: Vec::new(),
        bias: None,
    };
    let assignment = Assignment {
        forms: BTreeMap::new(),
        units: prepared.units.iter().map(unit).collect(),
    };
    QuantizedProgram::new(&prepared.program, &assignment, Mode::FakeQuant).map_err(|e| network.located(e))
}

/// The value whose scale a value has.
pub(super) fn root<'p>(plan: &'p QuantPlan, value: &'p ValuePlan) -> &'p str {
    let mut at = value;
    for _ in 0..plan.values.len() {
        let Precision::SharedWith(source) = &at.precision else { break };
        let Some(next) = plan.value(source) else { break };
        at = next;
    }
    &at.name
}

/// The proposals of every value that is quantized or cast, without those that come to the same parameters.
fn proposals(
    plan: &QuantPlan,
    statistics: &Statistics,
    scheme: &QuantScheme,
) -> Result<BTreeMap<String, Vec<Proposal>>, Error> {
    let wanted = plan.values.iter().filter(|value| {
        matches!(value.precision, Precision::Quantized(_)) || matches!(value.cast, Some(Cast::Fixed(_)))
    });
    let wanted: Vec<(&str, &Sketch)> = wanted
        .filter_map(|value| Some((value.name.as_str(), statistics.sketches.get(&value.name)?)))
        .collect();
    wanted
        .into_par_iter()
        .map(|(name, sketch)| Ok((name.to_owned(), proposals_of(sketch, scheme)?)))
        .collect()
}

fn proposals_of(sketch: &Sketch, scheme: &QuantScheme) -> Result<Vec<Proposal>, Error> {
    let algorithms = calibrate::ALL.iter().filter(|algorithm| !algorithm.races());
    let ranges = algorithms.map(|algorithm| (algorithm.id(), algorithm.range(sketch, scheme)));
    let extra = PERCENTILES
        .iter()
        .map(|&(id, part)| (id, percentile::inside(sketch, part)));
    let mut proposals: Vec<Proposal> = Vec::new();
    for (algorithm, range) in ranges.chain(extra) {
        let (params, _) = params_from_range(&[range], scheme)?;
        if proposals.iter().all(|known| known.params != params) {
            proposals.push(Proposal {
                algorithm: algorithm.to_owned(),
                range,
                params,
            });
        }
    }
    Ok(proposals)
}

/// A consumer of a root value: the unit and the input. Network outputs have a number behind that of the last unit.
type Consumer = (usize, usize);
type Energies = BTreeMap<(String, Consumer), Energy>;

#[derive(Clone, Debug)]
struct Energy {
    signal: f64,
    /// For each proposal.
    noise: Vec<f64>,
}

impl Energy {
    fn none(n_proposals: usize) -> Self {
        Self {
            signal: 0.0,
            noise: vec![0.0; n_proposals],
        }
    }

    fn add(&mut self, other: &Self) {
        self.signal += other.signal;
        self.noise.iter_mut().zip(&other.noise).for_each(|(a, b)| *a += b);
    }
}

struct Track<'a> {
    network: &'a Network,
    program: &'a QuantizedProgram,
    plan: &'a QuantPlan,
    roots: &'a BTreeMap<String, String>,
    proposals: &'a BTreeMap<String, Vec<Proposal>>,
}

impl Track<'_> {
    /// One sample: every unit on golden inputs, and again for each proposal of each input.
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Energies, Error> {
        let mut energies = Energies::new();
        let mut values: HashMap<String, Value> = inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), Stored::plain(tensor.clone()).into()))
            .collect();
        let mut uses = uses(self.program);
        for (unit_idx, unit) in self.program.units().iter().enumerate() {
            let given: Option<Vec<Value>> = unit.inputs().iter().map(|name| values.get(name).cloned()).collect();
            let Some(given) = given else { continue };
            let results = unit.run(&given).map_err(|e| self.network.located(e))?;
            for (input_idx, name) in unit.inputs().iter().enumerate().filter(|_| self.decides(unit.outputs())) {
                let Some((root, proposals)) = self.proposed(name) else { continue };
                let mut energy = Energy::none(proposals.len());
                energy.signal = results.iter().map(signal).sum();
                for (proposal, noise) in proposals.iter().zip(&mut energy.noise) {
                    let Some(changed) = quantized(&given[input_idx], &proposal.params) else { continue };
                    let mut changed_inputs = given.clone();
                    changed_inputs[input_idx] = changed;
                    let changed = unit.run(&changed_inputs).map_err(|e| self.network.located(e))?;
                    *noise = results.iter().zip(&changed).map(|(a, b)| distance(a, b)).sum();
                }
                energies.insert((root.to_owned(), (unit_idx, input_idx)), energy);
            }
            for name in unit.inputs() {
                if let Some(left) = uses.get_mut(name) {
                    *left -= 1;
                    if *left == 0 {
                        values.remove(name);
                    }
                }
            }
            values.extend(unit.outputs().iter().cloned().zip(results));
        }
        self.ends(&values, &mut energies);
        Ok(energies)
    }

    /// A unit that only moves numbers decides nothing: those behind it do.
    fn decides(&self, outputs: &[String]) -> bool {
        let shares = |name: &String| {
            let value = self.plan.value(name);
            value.is_some_and(|value| matches!(value.precision, Precision::SharedWith(_)))
        };
        !outputs.iter().any(shares)
    }

    fn proposed(&self, name: &str) -> Option<(&str, &[Proposal])> {
        let root = self.roots.get(name)?;
        Some((root, self.proposals.get(root)?))
    }

    /// Network outputs are read by the user.
    fn ends(&self, values: &HashMap<String, Value>, energies: &mut Energies) {
        let end = self.program.units().len();
        for (idx, output) in self.network.model.graph.outputs.iter().enumerate() {
            let (Some(value), Some((root, proposals))) = (values.get(&output.name), self.proposed(&output.name))
            else {
                continue;
            };
            let noise = |proposal: &Proposal| {
                quantized(value, &proposal.params).map_or(0.0, |changed| distance(value, &changed))
            };
            let energy = Energy {
                signal: signal(value),
                noise: proposals.iter().map(noise).collect(),
            };
            energies.insert((root.to_owned(), (end, idx)), energy);
        }
    }
}

/// How many units read each value, plus one for network outputs.
pub(super) fn uses(program: &QuantizedProgram) -> HashMap<String, usize> {
    let mut uses: HashMap<String, usize> = HashMap::new();
    let read = program.units().iter().flat_map(|unit| unit.inputs());
    for name in read.chain(program.outputs()) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    uses
}

/// What is left of a float value after quantization; `None` for others.
fn quantized(value: &Value, params: &QuantParams) -> Option<Value> {
    let stored = value.as_tensor()?;
    stored.physical().as_slice::<f32>()?;
    Some(to_form(stored, &Form::Quantized(params.clone()), Mode::FakeQuant).into())
}

fn signal(value: &Value) -> f64 {
    let elements = value.as_tensor().and_then(|stored| stored.physical().as_slice::<f32>());
    let squares = elements.unwrap_or_default().iter().map(|&v| f64::from(v) * f64::from(v));
    squares.sum()
}

fn distance(a: &Value, b: &Value) -> f64 {
    let (Some(a), Some(b)) = (a.as_tensor(), b.as_tensor()) else { return 0.0 };
    let b = b.in_layout(a.layout());
    let (Some(a), Some(b)) = (a.physical().as_slice::<f32>(), b.as_slice::<f32>()) else {
        return 0.0;
    };
    let squares = a.iter().zip(b).map(|(&a, &b)| {
        let difference = f64::from(a) - f64::from(b);
        difference * difference
    });
    squares.sum()
}

/// The plan with the winners' parameters.
pub(super) fn apply(
    prepared: &Prepared,
    plan: &QuantPlan,
    races: &BTreeMap<String, Race>,
) -> Result<QuantPlan, Error> {
    let mut plan = plan.clone();
    for value in &mut plan.values {
        if let Some(race) = races.get(&value.name) {
            let winner = &race.proposals[race.winner()];
            set_range(value, winner.range, &winner.params);
            value.chosen = race.describe();
        }
    }
    fit_biases(&prepared.program, &prepared.units, &mut plan)?;
    Ok(plan)
}

/// Gives a value another range.
pub(super) fn set_range(value: &mut ValuePlan, range: Range, params: &QuantParams) {
    value.range = Some(range);
    match (&mut value.precision, &mut value.cast) {
        (Precision::Quantized(own), _) | (_, Some(Cast::Fixed(own))) => own.clone_from(params),
        _ => {}
    }
}

/// Algorithms whose ranges are those of a whole plan.
pub(super) fn contenders() -> impl Iterator<Item = &'static dyn calibrate::Algorithm> {
    let mut seen = BTreeSet::new();
    let ours = calibrate::ALL.iter().copied().filter(|algorithm| !algorithm.races());
    ours.filter(move |algorithm| seen.insert(algorithm.id()))
}

/// The plan with the ranges of one algorithm.
pub(super) fn with_algorithm(
    prepared: &Prepared,
    plan: &QuantPlan,
    statistics: &Statistics,
    algorithm: &dyn calibrate::Algorithm,
    scheme: &QuantScheme,
) -> Result<QuantPlan, Error> {
    let ranges = statistics.ranges(algorithm, scheme);
    let mut plan = plan.clone();
    for value in &mut plan.values {
        if let Some(&range) = ranges.get(&value.name) {
            let (params, _) = params_from_range(&[range], scheme)?;
            set_range(value, range, &params);
            value.chosen = algorithm.id().to_owned();
        }
    }
    fit_biases(&prepared.program, &prepared.units, &mut plan)?;
    Ok(plan)
}

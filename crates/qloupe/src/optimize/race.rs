//! `auto`: every algorithm proposes a range for every value, and the network decides.
//!
//! With everything else golden, a value is quantized by each proposal in turn, and what it reaches is run again: the cost of a
//! proposal is the squared error that it makes at the network outputs, relative to their energy.

use std::collections::BTreeMap;

use qloupe_exec::{Cast, Form, Mode, Replay, Stored, Value, to_form};
use qloupe_tensor::{QuantParams, QuantScheme, Range, Tensor, params_from_range};
use rayon::prelude::*;

use super::score::Referee;
use crate::Error;
use crate::calibrate::{self, Sketch, Statistics, percentile};
use crate::plan::{Precision, QuantPlan, ValuePlan, fit_biases};
use crate::prepare::{Network, Prepared};
use crate::runner::Named;

/// Parts of all elements that percentiles keep inside, beside that of the algorithm.
const PERCENTILES: &[(&str, f64)] = &[("percentile 99.9", 0.999), ("percentile 99.99", 0.9999)];
/// Golden values of one sample that stay in memory; others are computed again.
const MAX_GOLDEN_BYTES: usize = 256 << 20;

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
    /// Squared error at the network outputs relative to their energy, summed over them.
    pub(super) costs: Vec<f64>,
}

impl Race {
    /// The place of the cheapest proposal; the first where several are.
    pub(super) fn winner(&self) -> usize {
        let mut best = 0;
        for (idx, cost) in self.costs.iter().enumerate() {
            if *cost < self.costs[best] {
                best = idx;
            }
        }
        best
    }

    /// The winner and the others, each with the noise that it makes at the outputs: `mse 0.120%, min_max 0.400%`.
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
    referee: &Referee,
    samples: &[Vec<(String, Tensor)>],
    scheme: &QuantScheme,
) -> Result<BTreeMap<String, Race>, Error> {
    let proposals = proposals(plan, statistics, scheme)?;
    let of_sample = |inputs: &Vec<(String, Tensor)>| run(network, prepared, referee, &proposals, inputs);
    let of_samples = samples
        .par_iter()
        .map(of_sample)
        .collect::<Result<Vec<Energies>, Error>>()?;
    let mut races = BTreeMap::new();
    for (name, proposals) in proposals {
        let cost = |idx: usize| {
            let of_value = of_samples.iter().filter_map(|sample| sample.get(&name)?.get(idx));
            let mut sums: Vec<[f64; 2]> = Vec::new();
            for parts in of_value {
                sums.resize(parts.len(), [0.0; 2]);
                for (sum, part) in sums.iter_mut().zip(parts) {
                    *sum = [sum[0] + part[0], sum[1] + part[1]];
                }
            }
            let relative = sums
                .iter()
                .map(|[signal, noise]| noise / signal.max(f64::MIN_POSITIVE));
            relative.sum::<f64>()
        };
        let costs = (0..proposals.len()).map(cost).collect();
        races.insert(name, Race { proposals, costs });
    }
    Ok(races)
}

/// For each value and proposal, signal and noise of every part of the outputs.
type Energies = BTreeMap<String, Vec<Vec<[f64; 2]>>>;

/// One sample: what each proposal of each value does to the outputs.
fn run(
    network: &Network,
    prepared: &Prepared,
    referee: &Referee,
    proposals: &BTreeMap<String, Vec<Proposal>>,
    inputs: &[(String, Tensor)],
) -> Result<Energies, Error> {
    let located = |e| network.located(e);
    let outputs: Vec<&str> = network
        .model
        .graph
        .outputs
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    let mut replay = Replay::of_float(&prepared.program, inputs, MAX_GOLDEN_BYTES).map_err(located)?;
    let golden = replay.run(Vec::new(), &outputs).map_err(located)?;
    let golden = named(&outputs, &golden.values);
    let mut energies = Energies::new();
    for (name, proposals) in proposals {
        let Ok(value) = replay.golden(name) else { continue };
        let mut of_value = Vec::new();
        for proposal in proposals {
            let Some(changed) = quantized(&value, &proposal.params) else {
                break;
            };
            let replayed = replay
                .run(vec![(name.clone(), changed)], &outputs)
                .map_err(located)?;
            of_value.push(referee.energies(&golden, &named(&outputs, &replayed.values)));
        }
        energies.insert(name.clone(), of_value);
    }
    Ok(energies)
}

/// Outputs as tensors; what is none is left out alike in all runs.
fn named(names: &[&str], values: &[Value]) -> Named {
    let tensor = |(name, value): (&&str, &Value)| {
        Some((
            (*name).to_owned(),
            value.as_tensor().map(Stored::to_plain)?.clone(),
        ))
    };
    names.iter().zip(values).filter_map(tensor).collect()
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

/// What is left of a float value after quantization; `None` for others.
fn quantized(value: &Value, params: &QuantParams) -> Option<Value> {
    let stored = value.as_tensor()?;
    stored.physical().as_slice::<f32>()?;
    Some(to_form(stored, &Form::Quantized(params.clone()), Mode::FakeQuant).into())
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

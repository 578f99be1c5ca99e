//! `auto`: every algorithm proposes a range for every value, and the network decides.
//!
//! The cost of a proposal is the squared error that it makes at the network outputs, relative to their energy, with everything
//! else golden (`proposal_costs.rs`).

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Cast;
use qloupe_tensor::{QuantParams, QuantScheme, Range, params_from_range};
use rayon::prelude::*;

use super::proposal_costs::{Judged, Proposals};
use crate::Error;
use crate::calibrate::{self, Algorithm, Sketch, Statistics, percentile};
use crate::plan::{Precision, QuantPlan, ValuePlan, fit_biases};
use crate::prepare::Prepared;

/// Parts of all elements that percentiles keep inside, beside that of the algorithm.
const PERCENTILES: &[(&str, f64)] = &[("percentile 99.9", 0.999), ("percentile 99.99", 0.9999)];
/// Proposals whose scales are nearer to each other than this, and whose zero points differ by a step at most, are one.
const SAME_SCALE: f32 = 0.02;
/// Another range takes the place of that of the best algorithm where it leaves at most this part of the noise ...
const MOST_NOISE_LEFT: f64 = 0.8;
/// ... and takes away at least this part of the noise of all values together.
const LEAST_SHARE: f64 = 0.001;
/// Parts of the lower end that are tried of an answer.
const LOWER_PARTS: &[(&str, f32)] = &[
    ("three quarters of the lower end", 0.75),
    ("half of the lower end", 0.5),
    ("a third of the lower end", 0.33),
    ("a quarter of the lower end", 0.25),
];
/// What is said of a value that keeps its whole range.
const WHOLE: &str = "min_max, as the value becomes a network output";
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
    fn cheapest(&self) -> usize {
        let mut best = 0;
        for (idx, cost) in self.costs.iter().enumerate() {
            if *cost < self.costs[best] {
                best = idx;
            }
        }
        best
    }

    /// The cost of the proposal nearest to parameters.
    fn cost_of(&self, params: &QuantParams) -> f64 {
        let known = self
            .proposals
            .iter()
            .position(|proposal| is_same(&proposal.params, params));
        known.map_or(f64::INFINITY, |idx| self.costs[idx])
    }

    /// A choice and the others, each with the noise that it makes at the outputs: `mse 0.120%, min_max 0.400%`.
    fn describe(&self, chosen: usize) -> String {
        let percent = |cost: f64| cost.max(0.0).sqrt() * 100.0;
        let figure = |idx: usize| {
            format!(
                "{} {:.3}%",
                self.proposals[idx].algorithm,
                percent(self.costs[idx])
            )
        };
        let others = (0..self.costs.len()).filter(|&idx| idx != chosen);
        let figures: Vec<String> = std::iter::once(chosen).chain(others).map(figure).collect();
        figures.join(", ")
    }
}

fn is_same(a: &QuantParams, b: &QuantParams) -> bool {
    let (Some((a, first)), Some((b, second))) = (a.as_per_tensor(), b.as_per_tensor()) else {
        return a == b;
    };
    (a - b).abs() <= SAME_SCALE * a && first.abs_diff(second) <= 1
}

/// Lets the proposals of every quantized value compete on samples. Of `answers` only the lower end is proposed.
pub(super) fn race(
    judged: &Judged<'_>,
    plan: &QuantPlan,
    statistics: &Statistics,
    scheme: &QuantScheme,
    answers: &BTreeSet<String>,
    told: &(dyn Fn(usize, usize) + Sync),
) -> Result<BTreeMap<String, Race>, Error> {
    let proposals = proposals(plan, statistics, scheme, answers)?;
    let mut costs = judged.costs(&proposals, told)?;
    let with_costs = |(name, proposals): (String, Vec<Proposal>)| {
        let costs = costs.remove(&name).unwrap_or_default();
        (name, Race { proposals, costs })
    };
    Ok(proposals.into_iter().map(with_costs).collect())
}

/// The proposals of every value that is quantized or cast, without those that come to the same parameters.
pub(super) fn proposals(
    plan: &QuantPlan,
    statistics: &Statistics,
    scheme: &QuantScheme,
    answers: &BTreeSet<String>,
) -> Result<Proposals, Error> {
    let wanted = plan.values.iter().filter(|value| {
        matches!(value.precision, Precision::Quantized(_)) || matches!(value.cast, Some(Cast::Fixed(_)))
    });
    let wanted: Vec<(&str, &Sketch)> = wanted
        .filter_map(|value| Some((value.name.as_str(), statistics.sketches.get(&value.name)?)))
        .collect();
    wanted
        .into_par_iter()
        .map(|(name, sketch)| {
            Ok((
                name.to_owned(),
                proposals_of(sketch, scheme, answers.contains(name))?,
            ))
        })
        .collect()
}

fn proposals_of(sketch: &Sketch, scheme: &QuantScheme, is_answer: bool) -> Result<Vec<Proposal>, Error> {
    let whole = sketch.range();
    let algorithms = contenders();
    let ranges = algorithms.map(|algorithm| (algorithm.id(), algorithm.range(sketch, scheme)));
    let extra = PERCENTILES
        .iter()
        .map(|&(id, part)| (id, percentile::inside(sketch, part)));
    let mut proposals: Vec<Proposal> = Vec::new();
    let lower = LOWER_PARTS
        .iter()
        .filter(|_| is_answer && whole.min < 0.0)
        .map(|&(id, part)| {
            let min = whole.min * part;
            (id, Range { min, ..whole })
        });
    for (algorithm, range) in ranges.chain(extra).chain(lower) {
        // The rarest large elements of an answer are what it is about; small ones may become 0 after a sigmoid.
        let range = if is_answer {
            Range {
                max: whole.max,
                ..range
            }
        } else {
            range
        };
        let (params, _) = params_from_range(&[range], scheme)?;
        if proposals.iter().all(|known| !is_same(&known.params, &params)) {
            proposals.push(Proposal {
                algorithm: algorithm.to_owned(),
                range,
                params,
            });
        }
    }
    Ok(proposals)
}

/// The algorithms that propose ranges and whole plans.
pub(super) fn contenders() -> impl Iterator<Item = &'static dyn Algorithm> {
    calibrate::ALL
        .iter()
        .copied()
        .filter(|algorithm| !algorithm.races())
}

/// A plan with other ranges where they take away much of the noise.
pub(super) fn mixed(
    prepared: &Prepared,
    plan: &QuantPlan,
    races: &BTreeMap<String, Race>,
) -> Result<QuantPlan, Error> {
    let mut plan = plan.clone();
    let cost = |value: &ValuePlan| {
        let params = own_params(value)?;
        Some(races.get(&value.name)?.cost_of(params)).filter(|cost| cost.is_finite())
    };
    let total: f64 = plan.values.iter().filter_map(cost).sum();
    for value in &mut plan.values {
        let Some(race) = races.get(&value.name) else {
            continue;
        };
        let Some(own) = own_params(value) else { continue };
        let cost = race.cost_of(own);
        let cheapest = race.cheapest();
        let least = race.costs[cheapest];
        if least <= MOST_NOISE_LEFT * cost && cost - least >= LEAST_SHARE * total {
            let proposal = &race.proposals[cheapest];
            set_range(value, proposal.range, &proposal.params);
            value.chosen = race.describe(cheapest);
        } else if let Some(own) = race
            .proposals
            .iter()
            .position(|proposal| is_same(&proposal.params, own))
        {
            value.chosen = race.describe(own);
        }
    }
    fit_biases(prepared, &mut plan)?;
    Ok(plan)
}

/// The parameters that a value is quantized or read with.
fn own_params(value: &ValuePlan) -> Option<&QuantParams> {
    match (&value.precision, &value.cast) {
        (Precision::Quantized(params), _) | (_, Some(Cast::Fixed(params))) => Some(params),
        _ => None,
    }
}

/// Gives a value another range.
pub(super) fn set_range(value: &mut ValuePlan, range: Range, params: &QuantParams) {
    value.range = Some(range);
    match (&mut value.precision, &mut value.cast) {
        (Precision::Quantized(own), _) | (_, Some(Cast::Fixed(own))) => own.clone_from(params),
        _ => {}
    }
}

/// The plan with the ranges of one algorithm; the answers of the network keep their whole range.
pub(super) fn with_algorithm(
    prepared: &Prepared,
    plan: &QuantPlan,
    statistics: &Statistics,
    algorithm: &dyn Algorithm,
    scheme: &QuantScheme,
    answers: &BTreeSet<String>,
) -> Result<QuantPlan, Error> {
    let mut ranges = statistics.ranges(algorithm, scheme);
    for (name, range) in &mut ranges {
        if let Some(sketch) = statistics.sketches.get(name).filter(|_| answers.contains(name)) {
            *range = sketch.range();
        }
    }
    let mut plan = plan.clone();
    for value in &mut plan.values {
        if let Some(&range) = ranges.get(&value.name) {
            let (params, _) = params_from_range(&[range], scheme)?;
            set_range(value, range, &params);
            let is_answer = answers.contains(&value.name);
            value.chosen = if is_answer { WHOLE } else { algorithm.id() }.to_owned();
        }
    }
    fit_biases(prepared, &mut plan)?;
    Ok(plan)
}

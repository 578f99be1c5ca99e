//! `equalize_layers`: gives the channels between two layers the same share of the ranges of both weights.
//!
//! `s[c] = sqrt(r1[c] / r2[c])`, where `r1[c]` is the largest magnitude of the weights that produce channel `c`, `r2[c]` that of
//! the weights that multiply it, each as a share of the largest of its tensor. Then both are `sqrt(r1[c] r2[c])`: no channel
//! wastes the scale of either. The weights of neighbours depend on one another, so this is repeated until it changes nothing.
//!
//! A channel that is constant on every sample keeps its scale and counts in no range: `dead_channels` zeroes it.
//!
//! Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", equation 11. New here:
//! regions of more than two layers; the bound by the range of the value, which the paper leaves to high bias absorption.

use std::collections::BTreeMap;

use crate::passes::Scaling;
use crate::passes::scale_values::{Constants, Place, Region, RegionWeight, Role};

/// The name of the pass in plans and reports.
pub(super) const PASS: &str = "equalize_layers";

/// Rounds over all regions, at most.
const MAX_SWEEPS: usize = 40;
/// A round that changes no scale by more than this part is the last one.
const CONVERGED: f64 = 1e-3;
/// Scales beyond this, or below its inverse, are not taken.
const MAX_SCALE: f64 = 256.0;

/// What a scale has to heed beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nothing.
    Free,
    /// No channel grows beyond the range that the value has.
    ByRange,
}

/// Scales that equalize the weights of regions. `ranges` are those of the channels of the value that each region reads.
pub(super) fn equalize(
    regions: &[Region],
    constants: &Constants<'_>,
    ranges: &BTreeMap<String, Vec<[f32; 2]>>,
    bound: Bound,
) -> Vec<Scaling> {
    let mut weights = Weights::default();
    let mut states: Vec<State<'_>> = Vec::new();
    for region in regions {
        let Some(ranges) = region.ranges(ranges) else {
            continue;
        };
        let sides = [Role::Produces, Role::Consumes].map(|role| {
            region
                .weights
                .iter()
                .filter(move |weight| weight.tie.role == role)
        });
        // A Mul or a normalization before is no layer.
        let is_layer = |weight: &RegionWeight| weight.tie.place != Place::Flat;
        let [mut before, mut after] = sides;
        if before.by_ref().all(is_layer) && after.next().is_some() {
            region
                .weights
                .iter()
                .for_each(|weight| weights.add(&weight.name, constants));
            states.push(State::new(region, &ranges));
        }
    }
    for _ in 0..MAX_SWEEPS {
        let changes = states.iter_mut().map(|state| state.step(&mut weights, bound));
        if changes.fold(0.0, f64::max) < CONVERGED {
            break;
        }
    }
    states.into_iter().flat_map(State::finish).collect()
}

/// The weights with the scales so far.
#[derive(Default)]
struct Weights {
    values: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Weights {
    fn add(&mut self, name: &str, constants: &Constants<'_>) {
        if let Some(tensor) = constants.get(name) {
            let values = tensor.as_slice::<f32>().unwrap_or_default();
            let values = values.iter().map(|&v| f64::from(v)).collect();
            self.values
                .entry(name.to_owned())
                .or_insert((tensor.shape().to_vec(), values));
        }
    }

    /// The largest magnitude of each channel of the region, as a share of the largest of those that are alive.
    fn shares(&self, weight: &RegionWeight, is_dead: &[bool]) -> Vec<f64> {
        let mut largest = vec![0.0_f64; is_dead.len()];
        if let Some((shape, values)) = self.values.get(&weight.name) {
            for (idx, value) in values.iter().enumerate() {
                let channel = weight.channel(idx, shape);
                largest[channel] = largest[channel].max(value.abs());
            }
        }
        let alive = largest.iter().zip(is_dead).filter(|(_, dead)| !**dead);
        let whole = alive
            .map(|(value, _)| *value)
            .fold(0.0, f64::max)
            .max(f64::MIN_POSITIVE);
        largest.iter_mut().for_each(|value| *value /= whole);
        largest
    }

    fn scale(&mut self, weight: &RegionWeight, factors: &[f64]) {
        if let Some((shape, values)) = self.values.get_mut(&weight.name) {
            for (idx, value) in values.iter_mut().enumerate() {
                let factor = factors[weight.channel(idx, shape)];
                *value *= if weight.tie.role == Role::Consumes {
                    factor
                } else {
                    factor.recip()
                };
            }
        }
    }
}

/// A region with its scales so far.
struct State<'r> {
    region: &'r Region,
    scale: Vec<f64>,
    is_dead: Vec<bool>,
    /// The largest magnitude of each channel of the value.
    magnitudes: Vec<f64>,
}

impl<'r> State<'r> {
    fn new(region: &'r Region, ranges: &[[f32; 2]]) -> Self {
        let magnitude = |[min, max]: &[f32; 2]| f64::from(max.max(-min));
        Self {
            region,
            scale: vec![1.0; region.n_channels],
            is_dead: ranges.iter().map(|[min, max]| max <= min).collect(),
            magnitudes: ranges.iter().map(magnitude).collect(),
        }
    }

    /// One round: the largest change of a scale, in parts of it.
    fn step(&mut self, weights: &mut Weights, bound: Bound) -> f64 {
        let shares = |role: Role| {
            let mut largest = vec![0.0_f64; self.scale.len()];
            for weight in self
                .region
                .weights
                .iter()
                .filter(|weight| weight.tie.role == role)
            {
                let shares = weights.shares(weight, &self.is_dead);
                largest.iter_mut().zip(shares).for_each(|(a, b)| *a = a.max(b));
            }
            largest
        };
        let (before, after) = (shares(Role::Produces), shares(Role::Consumes));
        let whole = self.magnitudes.iter().copied().fold(0.0, f64::max);
        let mut change: f64 = 0.0;
        let mut factors = vec![1.0; self.scale.len()];
        for (channel, factor) in factors.iter_mut().enumerate() {
            let (r1, r2) = (before[channel], after[channel]);
            if self.is_dead[channel] || self.region.is_pinned[channel] || r1 <= 0.0 || r2 <= 0.0 {
                continue;
            }
            let known = self.scale[channel];
            let mut next = (known * (r1 / r2).sqrt()).clamp(MAX_SCALE.recip(), MAX_SCALE);
            if bound == Bound::ByRange && whole > 0.0 {
                next = next.max(self.magnitudes[channel] / whole);
            }
            *factor = next / known;
            self.scale[channel] = next;
            change = change.max((*factor - 1.0).abs());
        }
        for weight in &self.region.weights {
            weights.scale(weight, &factors);
        }
        change
    }

    fn finish(self) -> Vec<Scaling> {
        let changes = self.scale.iter().any(|s| (s - 1.0).abs() >= CONVERGED);
        let scale: Vec<f32> = self.scale.iter().map(|&s| s as f32).collect();
        if changes {
            self.region.scalings(PASS, &scale)
        } else {
            Vec::new()
        }
    }
}

//! The error of a quantized weight in parts: rounding, clipping, and what one scale for all channels costs.

use qloupe_tensor::{Granularity, QuantParams, Rounding, Tensor, fake_quantize_linear};

use super::{AVOIDABLE, Origin};
use crate::Error;
use crate::plan::{Method, per_channel_params, whole_range_params};
use crate::prepare::Prepared;
use crate::units::UnitGroup;

/// Channels that are named.
const N_WORST: usize = 4;

/// What there is to tell of the weights of a unit.
#[derive(Clone, Debug, Default)]
pub(super) struct WeightParts {
    /// The channels that lose most of themselves to one scale for all, the worst first.
    pub(super) worst_channels: Vec<usize>,
    /// Elements outside of what the scales can hold, and all.
    pub(super) n_clipped: usize,
    pub(super) n_weights: usize,
    /// Sources of error besides those, worst first.
    pub(super) clipped_channels: Vec<usize>,
    /// How many times the largest weight the scale reaches, at least 1.
    pub(super) reach: f64,
    /// The scales lie along another axis than the output channels.
    pub(super) wrong_axis: Option<(usize, usize)>,
    /// Channels of which nothing is left.
    pub(super) dead_channels: Vec<usize>,
    /// The error of the weights over that with scales of their whole range.
    pub(super) excess: f64,
}

impl WeightParts {
    pub(super) fn merge(&mut self, other: Self) {
        self.worst_channels.extend(other.worst_channels);
        self.clipped_channels.extend(other.clipped_channels);
        self.n_clipped += other.n_clipped;
        self.n_weights += other.n_weights;
        self.reach = self.reach.max(other.reach);
        self.wrong_axis = self.wrong_axis.or(other.wrong_axis);
        self.dead_channels.extend(other.dead_channels);
        self.excess = self.excess.max(other.excess);
    }
}

/// Weights that hold one part of the error each.
pub(super) struct SplitWeight {
    pub(super) changed: Vec<(Origin, Tensor)>,
    pub(super) about: WeightParts,
}

/// Splits the error of a weight: `weight` as the user has it, `stored` as the graph under test has it, which the plan
/// quantizes by `params`.
pub(super) fn split_weight(
    prepared: &Prepared,
    unit: &UnitGroup,
    name: &str,
    (weight, stored): (&Tensor, &Tensor),
    params: &QuantParams,
) -> Result<SplitWeight, Error> {
    let shape = weight.shape();
    let quantized = fake_quantize_linear(stored, params, Rounding::TiesEven)?;
    let (values, grid) = (weight.require::<f32>()?, quantized.require::<f32>()?);
    let channels = per_channel_params(prepared, unit, name, weight)?;
    let channel = |element: usize| {
        channels
            .as_ref()
            .map_or(0, |params| params.idx_of(element, shape))
    };
    let mut rounded = values.to_vec();
    let mut clipped = values.to_vec();
    let mut about = WeightParts {
        n_weights: values.len(),
        ..WeightParts::default()
    };
    let mut largest = vec![0.0_f64; params.scale().len()];
    for (element, (&v, &q)) in values.iter().zip(grid).enumerate() {
        let idx = params.idx_of(element, shape);
        let (min, max) = params.real_range(idx);
        let half_step = f64::from(params.scale()[idx]) / 2.0;
        let w = f64::from(v);
        largest[idx] = largest[idx].max(w.abs());
        if w < min - half_step || w > max + half_step {
            clipped[element] = q;
            about.n_clipped += 1;
            if !about.clipped_channels.contains(&channel(element)) {
                about.clipped_channels.push(channel(element));
            }
        } else {
            rounded[element] = q;
        }
    }
    let reach = largest.iter().enumerate().filter(|(_, largest)| **largest > 0.0);
    about.reach = reach
        .map(|(idx, largest)| params.real_range(idx).1 / largest)
        .fold(1.0, f64::max);
    if let Some(channels) = &channels {
        about.dead_channels = dead_channels(values, grid, channels, shape);
    }
    let fitted = match params.granularity() {
        Granularity::PerTensor => whole_range_params(prepared, unit, name, weight, Method::Layer)?,
        Granularity::PerChannel { .. } => channels.clone().unwrap_or_else(|| params.clone()),
        Granularity::PerBlock { .. } => whole_range_params(prepared, unit, name, weight, Method::Block)?,
    };
    let fitted = fake_quantize_linear(weight, &fitted, Rounding::TiesEven)?;
    let least = energy_of_difference(values, fitted.require::<f32>()?);
    // A pass of ours may have moved weights on purpose: what counts then is how their grid holds what it made of them.
    let meant = if prepared.stored.is_some() {
        values
    } else {
        stored.require::<f32>()?
    };
    about.excess = energy_of_difference(meant, grid) / least.max(f64::MIN_POSITIVE);
    let tensor = |values: Vec<f32>| Tensor::new(shape, values);
    let mut changed = Vec::new();
    match &channels {
        // Where one scale is wrong for all channels alike, it is not their difference that is to blame.
        Some(channels) if is_spread(params, channels, about.excess) => {
            // What remains of the rounding with a scale for each channel is rounding, the rest is spread.
            let own = fake_quantize_linear(weight, channels, Rounding::TiesEven)?;
            let own = own.require::<f32>()?.to_vec();
            let spread: Vec<f32> = values
                .iter()
                .zip(&rounded)
                .zip(&own)
                .map(|((&v, &shared), &own)| v + (shared - own))
                .collect();
            about.worst_channels = worst_channels(values, &rounded, channels, shape);
            changed.push((Origin::WeightRounding, tensor(own)?));
            changed.push((Origin::WeightSpread, tensor(spread)?));
        }
        Some(channels) => {
            let (own, planned) = (channels.granularity(), params.granularity());
            if let (Granularity::PerChannel { axis: expected }, Granularity::PerChannel { axis }) =
                (own, planned)
                && axis != expected
            {
                about.wrong_axis = Some((axis, expected));
            }
            changed.push((Origin::WeightRounding, tensor(rounded)?));
        }
        None => changed.push((Origin::WeightRounding, tensor(rounded)?)),
    }
    if about.n_clipped > 0 {
        changed.push((Origin::WeightClipping, tensor(clipped)?));
    }
    Ok(SplitWeight { changed, about })
}

fn energy_of_difference(a: &[f32], b: &[f32]) -> f64 {
    let squared = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    a.iter().zip(b).map(squared).sum()
}

/// Channels that are all zero on the grid and are not in float.
fn dead_channels(values: &[f32], grid: &[f32], channels: &QuantParams, shape: &[usize]) -> Vec<usize> {
    let mut alive = vec![[false; 2]; channels.scale().len()];
    for (element, (&v, &q)) in values.iter().zip(grid).enumerate() {
        let [was, is] = &mut alive[channels.idx_of(element, shape)];
        *was |= v != 0.0;
        *is |= q != 0.0;
    }
    let dead = alive.iter().enumerate().filter(|(_, [was, is])| *was && !is);
    dead.map(|(channel, _)| channel).collect()
}

/// True for one scale that serves several channels as well as one can.
fn is_spread(params: &QuantParams, channels: &QuantParams, excess: f64) -> bool {
    params.as_per_tensor().is_some() && channels.scale().len() > 1 && excess <= AVOIDABLE
}

/// The channels with the largest error relative to themselves.
fn worst_channels(values: &[f32], rounded: &[f32], channels: &QuantParams, shape: &[usize]) -> Vec<usize> {
    let mut energies = vec![[0.0_f64; 2]; channels.scale().len()];
    for (element, (&v, &q)) in values.iter().zip(rounded).enumerate() {
        let (v, q) = (f64::from(v), f64::from(q));
        let sums = &mut energies[channels.idx_of(element, shape)];
        *sums = [sums[0] + v * v, sums[1] + (v - q) * (v - q)];
    }
    let relative = |idx: usize| energies[idx][1] / energies[idx][0].max(f64::MIN_POSITIVE);
    let mut worst: Vec<usize> = (0..energies.len()).collect();
    worst.sort_by(|&a, &b| relative(b).total_cmp(&relative(a)));
    worst.truncate(N_WORST);
    worst
}

//! `migrate_scales`: moves what makes a value hard to quantize into the weights after it.
//!
//! `s[c] = max|x[c]|^a / max|w[c]|^(1 - a)`, where `x[c]` is a channel of the value over the tuning samples and `w[c]` what
//! multiplies it; `x` is divided by it in the scale and bias of the normalization, or in the weight of the product, that
//! produces it. Only the proportions between channels matter: the scales are brought to a geometric mean of 1.
//!
//! Source: Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
//! equation 4. Different here: several values of `a` compete on samples that are held back.

use std::collections::BTreeMap;

use crate::passes::Scaling;
use crate::passes::scale_values::{Constants, Region, Role};

/// The name of the pass in plans and reports.
pub(super) const PASS: &str = "migrate_scales";

/// What competes as `a`; the paper's choice first.
pub(super) const STRENGTHS: &[f32] = &[0.5, 0.3, 0.8];

/// Magnitudes are not taken to be smaller than this part of the largest.
const LEAST_PART: f32 = 1e-4;

/// Scales of a strength. `ranges` are those of the channels of the value that each region reads.
pub(super) fn migrate(
    regions: &[Region],
    constants: &Constants<'_>,
    ranges: &BTreeMap<String, Vec<[f32; 2]>>,
    strength: f32,
) -> Vec<Scaling> {
    let of_region = |region: &Region| {
        let ranges = region.ranges(ranges)?;
        let values: Vec<f32> = ranges.iter().map(|[min, max]| max.max(-min)).collect();
        let weights = weight_magnitudes(region, constants);
        let least = |of: &[f32]| of.iter().copied().fold(0.0, f32::max) * LEAST_PART;
        let (least_value, least_weight) = (least(&values), least(&weights));
        if least_value.partial_cmp(&0.0)?.is_le() || least_weight.partial_cmp(&0.0)?.is_le() {
            return None;
        }
        let logarithm = |(x, w): (&f32, &f32)| {
            strength * x.max(least_value).ln() - (1.0 - strength) * w.max(least_weight).ln()
        };
        let logarithms: Vec<f32> = values.iter().zip(&weights).map(logarithm).collect();
        let mean = logarithms.iter().sum::<f32>() / logarithms.len() as f32;
        let scale: Vec<f32> = logarithms.iter().map(|l| (l - mean).exp()).collect();
        Some(region.scalings(PASS, &scale))
    };
    regions
        .iter()
        // Proportions to channels that stay are no choice of this pass.
        .filter(|region| is_linear(region, constants) && !region.is_pinned.contains(&true))
        .filter_map(of_region)
        .flatten()
        .collect()
}

/// True for a region that only matrices read: those of convolutions are equalized.
fn is_linear(region: &Region, constants: &Constants<'_>) -> bool {
    let mut read = region
        .weights
        .iter()
        .filter(|weight| weight.tie.role == Role::Consumes);
    read.all(|weight| {
        constants
            .get(&weight.name)
            .is_some_and(|tensor| tensor.rank() == 2)
    })
}

/// The largest magnitude that multiplies each channel.
fn weight_magnitudes(region: &Region, constants: &Constants<'_>) -> Vec<f32> {
    let mut largest = vec![0.0_f32; region.n_channels];
    for weight in region
        .weights
        .iter()
        .filter(|weight| weight.tie.role == Role::Consumes)
    {
        let Some(tensor) = constants.get(&weight.name) else {
            continue;
        };
        for (idx, value) in tensor.as_slice::<f32>().unwrap_or_default().iter().enumerate() {
            let channel = weight.channel(idx, tensor.shape());
            largest[channel] = largest[channel].max(value.abs());
        }
    }
    largest
}

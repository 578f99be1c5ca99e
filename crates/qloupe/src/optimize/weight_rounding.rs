//! `weight_rounding`: rounds each weight up or down so that the output of its product is least wrong.
//!
//! For one output channel with weights `w`, quantized `v`, float inputs `x` and quantized ones `y` (both without their means,
//! which the bias takes), `|v y - w x|^2 = d' H d + 2 d' C w + const` with `d = v - w`, `H = y y'`, `C = y (y - x)'`. From the
//! nearest rounding on, single weights move one step while the sum falls: coordinate descent, no gradients.
//!
//! Sources: Nagel et al. 2020, "Up or Down? Adaptive Rounding", equation 13 (the quadratic form); Frantar et al. 2022, "Optimal
//! Brain Compression" (layer-local second moments); the term of the input's own error is ours to the same form.

use qloupe_exec::Stored;
use qloupe_kernels::matmul_f32;
use qloupe_tensor::{QuantParams, Rounding, Tensor, fake_quantize_linear};
use rayon::prelude::*;

use super::bias_correction::{self, corrected};
use super::lanes::{Change, Site, walk_lanes};
use super::patches::{Layout, Sums};
use super::scale_search::{Limits, least_error_scales};
use super::{Pass, Stage, Work};
use crate::Error;
use crate::quantize::Quantized;

/// Rows of inputs that the second moments are of: so many for each element that an output channel multiplies ...
const ROWS_PER_ELEMENT: usize = 32;
/// ... but not fewer, and not more than these.
const INPUT_ROWS: std::ops::RangeInclusive<usize> = 512..=4096;
/// Output channels with more weights are rounded to nearest: their moments would need more rows and gigabytes.
const MAX_WEIGHTS: usize = 2304;
/// Added to the diagonal, relative to its mean: few rows cannot be trusted in every direction.
const RIDGE: f32 = 0.02;
/// Rows of inputs that choose a scale, at most.
const MAX_SCALE_ROWS: usize = 1024;
/// Passes over the weights of a channel, at most.
const MAX_SWEEPS: usize = 8;

/// The pass.
#[derive(Debug)]
pub(super) struct WeightRounding;

impl Pass for WeightRounding {
    fn id(&self) -> &'static str {
        "weight_rounding"
    }

    fn title(&self) -> &'static str {
        "round each weight to where its product is least wrong"
    }

    fn level(&self) -> u8 {
        3
    }

    fn stage(&self) -> Stage {
        Stage::Correction
    }

    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error> {
        let progress = |done, all| work.progress(self.id(), done, all);
        let mut edit = |site: &Site<'_>| {
            let Some((params, weight)) = rounded(site)? else {
                return bias_correction::change(site);
            };
            let bias = corrected(site, &weight, &params)?;
            Ok(Change {
                params: Some(params),
                weight: Some(weight),
                bias,
            })
        };
        let changes = walk_lanes(work.network(), quantized, work.tuning(), &mut edit, &progress)?;
        quantized.with_changes(work.network(), changes)
    }
}

/// The scales of a weight and the weight on their grid; `None` for products that are rounded to nearest.
fn rounded(site: &Site<'_>) -> Result<Option<(QuantParams, Tensor)>, Error> {
    let rank = site.inputs.first().map_or(0, |(float, _)| float.rank());
    let layout = Layout::new(site.node, site.weight, site.data_idx, rank);
    let Some(layout) = layout.filter(|layout| layout.k <= MAX_WEIGHTS) else {
        return Ok(None);
    };
    let params = best_scales(site, &layout, &variances(&layout, site.inputs))?;
    let nearest = fake_quantize_linear(site.weight, &params, Rounding::TiesEven)?;
    let (weight, mut values) = (site.weight.require::<f32>()?, nearest.require::<f32>()?.to_vec());
    let groups = (0..layout.n_groups).into_par_iter();
    let of_groups: Vec<Vec<f32>> = groups
        .map(|group| {
            let Some(moments) = Moments::new(&layout, site.inputs, group) else {
                return Vec::new();
            };
            round_group(
                &params,
                site.weight.shape(),
                &layout,
                group,
                &moments,
                weight,
                &values,
            )
        })
        .collect();
    for (group, rows) in of_groups.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        for (idx, &value) in rows.iter().enumerate() {
            values[layout.place(group, idx / layout.k, idx % layout.k)] = value;
        }
    }
    Ok(Some((params, Tensor::new(site.weight.shape(), values)?)))
}

/// The variance of each element that an output channel multiplies, by [`Layout::sum_place`].
fn variances(layout: &Layout, inputs: &[(Stored, Stored)]) -> Vec<f64> {
    let each = MAX_SCALE_ROWS.div_ceil(inputs.len().max(1));
    let mut sums = Sums::default();
    let n: usize = inputs
        .iter()
        .map(|(_, quantized)| layout.sum(quantized, each, &mut sums))
        .sum();
    let n = n.max(1) as f64;
    let variance = |(sum, square): (&f64, &f64)| (square / n - (sum / n) * (sum / n)).max(0.0);
    sums.values.iter().zip(&sums.squares).map(variance).collect()
}

/// The scales at which the error at the output is least: weights outside are clipped.
fn best_scales(site: &Site<'_>, layout: &Layout, variances: &[f64]) -> Result<QuantParams, Error> {
    let mut energies = vec![0.0_f64; site.weight.len()];
    for group in 0..layout.n_groups {
        for k in 0..layout.k {
            let energy = variances.get(layout.sum_place(group, k)).copied().unwrap_or(0.0);
            (0..layout.n_rows).for_each(|row| energies[layout.place(group, row, k)] = energy);
        }
    }
    let best = least_error_scales(site.weight, site.params, site.n_shared_scales(), &|element| {
        energies[element]
    })?;
    Ok(site.stored(best))
}

/// The second moments of the inputs of one group, both `[k, k]`.
struct Moments {
    /// `H`, with the ridge.
    quantized: Vec<f32>,
    /// `C`.
    error: Vec<f32>,
}

impl Moments {
    /// `None` when there are no inputs, or they are constant.
    fn new(layout: &Layout, inputs: &[(Stored, Stored)], group: usize) -> Option<Self> {
        let k = layout.k;
        let n_rows = (ROWS_PER_ELEMENT * k).clamp(*INPUT_ROWS.start(), *INPUT_ROWS.end());
        let each = n_rows.div_ceil(inputs.len().max(1));
        let (mut float, mut quantized) = (Vec::new(), Vec::new());
        for (a, b) in inputs {
            layout.gather(a, group, each, &mut float);
            layout.gather(b, group, each, &mut quantized);
        }
        let n = quantized.len() / k.max(1);
        if n == 0 || float.len() != quantized.len() {
            return None;
        }
        center(&mut float, k);
        center(&mut quantized, k);
        let mut error = quantized.clone();
        error.iter_mut().zip(&float).for_each(|(y, x)| *y -= x);
        let mut turned = vec![0.0; quantized.len()];
        qloupe_kernels::nchw_to_nhwc(&quantized, 1, n, k, &mut turned);
        let product = |right: &[f32]| {
            let mut out = vec![0.0; k * k];
            matmul_f32(&turned, right, k, n, k, &mut out);
            out
        };
        let (mut h, c) = (product(&quantized), product(&error));
        let trace: f32 = (0..k).map(|i| h[i * k + i]).sum();
        if trace <= 0.0 || !trace.is_finite() {
            return None;
        }
        (0..k).for_each(|i| h[i * k + i] += RIDGE * trace / k as f32);
        Some(Self {
            quantized: h,
            error: c,
        })
    }
}

/// Takes the mean of each column away.
fn center(rows: &mut [f32], k: usize) {
    let n = (rows.len() / k) as f64;
    let mut means = vec![0.0_f64; k];
    for row in rows.chunks(k) {
        means
            .iter_mut()
            .zip(row)
            .for_each(|(mean, &v)| *mean += f64::from(v));
    }
    for row in rows.chunks_mut(k) {
        row.iter_mut()
            .zip(&means)
            .for_each(|(v, mean)| *v -= (mean / n) as f32);
    }
}

/// The rounded weights of one group, channel by channel.
fn round_group(
    params: &QuantParams,
    shape: &[usize],
    layout: &Layout,
    group: usize,
    moments: &Moments,
    weight: &[f32],
    nearest: &[f32],
) -> Vec<f32> {
    let (n_rows, k) = (layout.n_rows, layout.k);
    let gather = |from: &[f32]| -> Vec<f32> {
        let places = (0..n_rows).flat_map(|row| (0..k).map(move |i| (row, i)));
        places.map(|(row, i)| from[layout.place(group, row, i)]).collect()
    };
    let (float, mut values) = (gather(weight), gather(nearest));
    let shifts: Vec<f32> = values.iter().zip(&float).map(|(v, w)| v - w).collect();
    // Half the gradient of every channel: H d + C w. H is symmetric; C is turned, as channels are rows here.
    let mut turned = vec![0.0; k * k];
    qloupe_kernels::nchw_to_nhwc(&moments.error, 1, k, k, &mut turned);
    let mut gradient = vec![0.0; n_rows * k];
    let mut of_inputs = vec![0.0; n_rows * k];
    matmul_f32(&shifts, &moments.quantized, n_rows, k, k, &mut gradient);
    matmul_f32(&float, &turned, n_rows, k, k, &mut of_inputs);
    gradient.iter_mut().zip(&of_inputs).for_each(|(a, b)| *a += b);
    let limits = Limits::new(params);
    let channels = values
        .par_chunks_mut(k)
        .zip(gradient.par_chunks_mut(k))
        .enumerate();
    channels.for_each(|(row, (values, gradient))| {
        let grid = |k: usize| {
            let idx = params.idx_of(layout.place(group, row, k), shape);
            let step = params.scale()[idx];
            // Half a step of slack: values on the grid are compared.
            let [low, high] = limits.at(idx).map(|steps| steps * step);
            Grid {
                step,
                low: low - step / 2.0,
                high: high + step / 2.0,
            }
        };
        let grids: Vec<Grid> = (0..k).map(grid).collect();
        descend(
            values,
            gradient,
            &float[row * k..][..k],
            &moments.quantized,
            &grids,
        );
    });
    values
}

/// The numbers that a weight can be.
struct Grid {
    step: f32,
    /// Between these.
    low: f32,
    high: f32,
}

/// Moves single weights by one step while that lowers the error; none further than one step from where it is in float.
fn descend(values: &mut [f32], gradient: &mut [f32], float: &[f32], h: &[f32], grids: &[Grid]) {
    let k = values.len();
    for _ in 0..MAX_SWEEPS {
        let mut moved = false;
        for i in 0..k {
            let Grid { step, low, high } = grids[i];
            let shift = if gradient[i] > 0.0 { -step } else { step };
            let value = values[i] + shift;
            let gain = 2.0 * shift * gradient[i] + step * step * h[i * k + i];
            if gain < 0.0 && (value - float[i]).abs() < step && value > low && value < high {
                values[i] = value;
                moved = true;
                let row = &h[i * k..][..k];
                gradient.iter_mut().zip(row).for_each(|(g, &h)| *g += shift * h);
            }
        }
        if !moved {
            break;
        }
    }
}

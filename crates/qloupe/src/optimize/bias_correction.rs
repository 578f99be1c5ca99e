//! `bias_correction`: moves the bias of each product by the mean of the error before its activation.
//!
//! `b'[c] = b[c] + mean(W x - Wq xq)[c]`, where `xq` is what the unit gets when everything before it is quantized and
//! corrected. Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
//! section 4.2; the means are measured instead of derived.

use qloupe_exec::Stored;
use qloupe_tensor::{QuantParams, Rounding, Tensor, fake_quantize_linear};
use rayon::prelude::*;

use super::lanes::{Change, Site, walk_lanes};
use super::patches::{Layout, Sums};
use super::{Pass, Stage, Work};
use crate::Error;
use crate::prepare::Network;
use crate::quantize::Quantized;

/// Rows of inputs that the means are of, at most.
const MAX_INPUT_ROWS: usize = 4096;

/// The pass.
#[derive(Debug)]
pub(super) struct BiasCorrection;

impl Pass for BiasCorrection {
    fn id(&self) -> &'static str {
        "bias_correction"
    }

    fn title(&self) -> &'static str {
        "move biases by the mean error of their products"
    }

    fn level(&self) -> u8 {
        3
    }

    fn stage(&self) -> Stage {
        Stage::Correction
    }

    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error> {
        let progress = |done, all| work.progress(self.id(), done, all);
        correct(work.network(), quantized, work.tuning(), &progress)
    }
}

/// The network with biases corrected on samples.
pub(super) fn correct(
    network: &Network,
    quantized: &Quantized,
    samples: &[Vec<(String, Tensor)>],
    progress: &dyn Fn(usize, usize),
) -> Result<Option<Quantized>, Error> {
    let mut edit = change;
    let changes = walk_lanes(network, quantized, samples, &mut edit, progress)?;
    quantized.with_changes(network, changes)
}

/// The corrected bias of a product on the weights as they are.
pub(super) fn change(site: &Site<'_>) -> Result<Change, Error> {
    let bias = corrected(site, site.weight, site.params)?;
    Ok(Change {
        bias,
        ..Change::default()
    })
}

/// The bias that makes the mean of every channel right when the product has this weight, which is quantized first.
pub(super) fn corrected(
    site: &Site<'_>,
    weight: &Tensor,
    params: &QuantParams,
) -> Result<Option<Tensor>, Error> {
    if !site.takes_bias() {
        return Ok(None);
    }
    let quantized = fake_quantize_linear(weight, params, Rounding::TiesEven)?;
    let rank = site.inputs.first().map_or(0, |(float, _)| float.rank());
    let errors = match Layout::new(site.node, site.weight, site.data_idx, rank) {
        Some(layout) => from_rows(site, &layout, &quantized),
        None => from_products(site, &quantized)?,
    };
    let mut bias = match site.bias {
        Some(bias) => bias.require::<f32>()?.to_vec(),
        None => vec![0.0; errors.len()],
    };
    if bias.len() != errors.len() || errors.iter().any(|error| !error.is_finite()) {
        return Ok(None);
    }
    for (bias, error) in bias.iter_mut().zip(&errors) {
        *bias = (f64::from(*bias) + error) as f32;
    }
    let shape = site
        .bias
        .map_or_else(|| vec![errors.len()], |bias| bias.shape().to_vec());
    Ok(Some(Tensor::new(&shape, bias)?))
}

/// The mean error of every channel from the mean of what it multiplies.
fn from_rows(site: &Site<'_>, layout: &Layout, quantized: &Tensor) -> Vec<f64> {
    let (reference, test) = (
        site.weight.as_slice::<f32>().unwrap_or_default(),
        quantized.as_slice::<f32>().unwrap_or_default(),
    );
    let each = MAX_INPUT_ROWS.div_ceil(site.inputs.len().max(1));
    let sums = |(float, under_plan): &(Stored, Stored)| {
        let mut sums = [Sums::default(), Sums::default()];
        layout.sum(float, each, &mut sums[0]);
        let n_rows = layout.sum(under_plan, each, &mut sums[1]);
        (sums, n_rows)
    };
    let of_samples: Vec<([Sums; 2], usize)> = site.inputs.par_iter().map(sums).collect();
    let count: usize = of_samples.iter().map(|(_, n_rows)| n_rows).sum();
    let mean = |which: usize, place: usize| -> f64 {
        let sums = of_samples
            .iter()
            .map(|(sums, _)| sums[which].values.get(place).copied().unwrap_or(0.0));
        sums.sum::<f64>() / count as f64
    };
    let of_group = |group: usize| {
        let place = |k: usize| layout.sum_place(group, k);
        let means: Vec<[f64; 2]> = (0..layout.k)
            .map(|k| [mean(0, place(k)), mean(1, place(k))])
            .collect();
        let error = |row: usize| -> f64 {
            let terms = means.iter().enumerate().map(|(k, means)| {
                let place = layout.place(group, row, k);
                f64::from(reference[place]) * means[0] - f64::from(test[place]) * means[1]
            });
            terms.sum()
        };
        (0..layout.n_rows).map(error).collect::<Vec<f64>>()
    };
    let groups: Vec<Vec<f64>> = (0..layout.n_groups).into_par_iter().map(of_group).collect();
    groups.concat()
}

/// The mean error of every channel from products of all samples.
fn from_products(site: &Site<'_>, quantized: &Tensor) -> Result<Vec<f64>, Error> {
    let errors = site
        .inputs
        .par_iter()
        .map(|(float, under_plan)| {
            let reference = site.product(float, site.weight)?;
            let test = site.product(under_plan, quantized)?;
            Ok(channel_sums(site, &reference, &test))
        })
        .collect::<Result<Vec<(Vec<f64>, usize)>, Error>>()?;
    let n_channels = errors.first().map_or(0, |(sums, _)| sums.len());
    let count: usize = errors.iter().map(|(_, count)| count).sum();
    let mean = |channel: usize| errors.iter().map(|(sums, _)| sums[channel]).sum::<f64>() / count as f64;
    Ok((0..n_channels).map(mean).collect())
}

/// The sum of `reference - test` of every channel, and how many elements a channel has.
fn channel_sums(site: &Site<'_>, reference: &Tensor, test: &Tensor) -> (Vec<f64>, usize) {
    let shape = reference.shape();
    let axis = site.channel_axis(shape.len());
    let inner: usize = shape[axis + 1..].iter().product::<usize>().max(1);
    let (a, b) = (
        reference.as_slice::<f32>().unwrap_or_default(),
        test.as_slice::<f32>().unwrap_or_default(),
    );
    let mut sums = vec![0.0; shape[axis]];
    for (run, (a, b)) in a.chunks(inner).zip(b.chunks(inner)).enumerate() {
        let difference: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).sum();
        sums[run % shape[axis]] += difference;
    }
    (sums, a.len() / shape[axis].max(1))
}

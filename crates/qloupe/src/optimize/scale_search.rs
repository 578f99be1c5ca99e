//! The scales of a weight at which its error is least: smaller than those of its whole range, so that the largest elements clip.

use qloupe_tensor::{QuantParams, Rounding, Tensor};

use crate::Error;

/// Parts of a scale that are tried: from 1 down in steps.
const N_SCALE_PARTS: usize = 12;
const SCALE_PART_STEP: f32 = 0.05;

/// For each scale, the part of it at which the squared error of its elements, each times its `energy`, is least. Every `n_shared`
/// consecutive scales are one.
pub(crate) fn least_error_scales(
    weight: &Tensor,
    params: &QuantParams,
    n_shared: usize,
    energy: &dyn Fn(usize) -> f64,
) -> Result<QuantParams, Error> {
    let (values, shape) = (weight.require::<f32>()?, weight.shape());
    let n_shared = n_shared.max(1);
    let part = |idx: usize| 1.0 - idx as f32 * SCALE_PART_STEP;
    let mut errors = vec![[0.0_f64; N_SCALE_PARTS]; params.scale().len().div_ceil(n_shared)];
    let limits = Limits::new(params);
    let run_length = params.granularity().run_length(shape);
    for (run, chunk) in values.chunks(run_length).enumerate() {
        let idx = params.idx_of(run * run_length, shape);
        let (scale, limits) = (params.scale()[idx], limits.at(idx));
        let errors = &mut errors[idx / n_shared];
        for (place, &value) in chunk.iter().enumerate() {
            let energy = energy(run * run_length + place);
            for (part_idx, error) in errors.iter_mut().enumerate() {
                let step = scale * part(part_idx);
                let steps = Rounding::TiesEven.round(value / step).clamp(limits[0], limits[1]);
                let difference = f64::from(value - steps * step);
                *error += difference * difference * energy;
            }
        }
    }
    let best = |errors: &[f64; N_SCALE_PARTS]| {
        let least = (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        part(least.unwrap_or(0))
    };
    let best: Vec<f32> = errors.iter().map(best).collect();
    let scales = params.scale().iter().enumerate();
    Ok(QuantParams::new(
        params.dtype(),
        params.granularity(),
        scales.map(|(idx, scale)| scale * best[idx / n_shared]).collect(),
        params.zero_point().to_vec(),
    )?)
}

/// How many steps a weight may lie from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    params: &'a QuantParams,
    /// The integers that are used: the lowest of a symmetric type is not.
    range: (i32, i32),
}

impl<'a> Limits<'a> {
    pub(super) fn new(params: &'a QuantParams) -> Self {
        let (min, max) = params.quant_range();
        let is_symmetric = params.zero_point().iter().all(|&zero_point| zero_point == 0);
        let min = if is_symmetric { min.max(-max) } else { min };
        Self {
            params,
            range: (min, max),
        }
    }

    /// Those of the scale at a place.
    pub(super) fn at(self, idx: usize) -> [f32; 2] {
        let (min, max) = self.range;
        [min, max].map(|q| (q - self.params.zero_point()[idx]) as f32)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::{DType, Granularity, fake_quantize_linear};

    use super::*;

    #[test]
    fn a_block_with_an_outlier_clips_it_and_shares_one_scale_over_the_kernel() {
        // One output channel, four input channels in blocks of two, a kernel of two places.
        let weight = vec![0.3_f32, 1.0, -0.8, 0.31, 0.33, -0.32, 0.29, 0.35];
        let weight = Tensor::new(&[1, 4, 2], weight).unwrap();
        let granularity = Granularity::PerBlock {
            axis: 1,
            block_size: 2,
        };
        let scale = vec![1.0 / 7.0, 1.0 / 7.0, 0.05, 0.05];
        let params = QuantParams::new(DType::Int4, granularity, scale, vec![0; 4]).unwrap();
        let best = least_error_scales(&weight, &params, 2, &|_| 1.0).unwrap();
        let bits: Vec<u32> = best.scale().iter().map(|scale| scale.to_bits()).collect();
        assert!(
            bits[0] == bits[1] && bits[2] == bits[3],
            "one scale for both places: {best:?}"
        );
        let error = |params: &QuantParams| -> f32 {
            let rounded = fake_quantize_linear(&weight, params, Rounding::TiesEven).unwrap();
            let pairs = weight.as_slice::<f32>().unwrap().iter();
            let pairs = pairs.zip(rounded.as_slice::<f32>().unwrap());
            pairs.map(|(a, b)| (a - b) * (a - b)).sum()
        };
        assert!(error(&best) < error(&params), "{best:?}");
    }
}

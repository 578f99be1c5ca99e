//! `entropy`: the clipping that changes the distribution of magnitudes least.

use qloupe_tensor::{QuantScheme, Range};

use super::noise::Noise;
use super::{Algorithm, Sketch};

/// Bins of equal width from 0 to the largest magnitude.
const N_BINS: usize = 2048;
/// Steps between thresholds that are tried.
const THRESHOLD_STEP: usize = 8;

/// The threshold with the least Kullback-Leibler divergence between the distribution that it clips and that which is left
/// of it on the grid, of the thresholds that cost no more squared error than clipping nothing. The vendor calls it
/// `kl_divergence`.
///
/// # Source
/// Migacz 2017, "8-bit Inference with TensorRT". Different: as many levels as the grid has on one side of 0; the bound by the
/// squared error, as the divergence does not tell how far away what it clips lies.
#[derive(Debug)]
pub(super) struct Entropy;

impl Algorithm for Entropy {
    fn id(&self) -> &'static str {
        "entropy"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["kl_divergence", "kl"]
    }

    fn title(&self) -> &'static str {
        "the clipping that changes the distribution least (Kullback-Leibler)"
    }

    fn range(&self, sketch: &Sketch, scheme: &QuantScheme) -> Range {
        let whole = sketch.range();
        let largest = f64::from(whole.max.max(-whole.min));
        let one_sided = !scheme.symmetric && (whole.min >= 0.0 || whole.max <= 0.0);
        let (quant_min, quant_max) = scheme.quant_range().unwrap_or((0, 255));
        let n_levels = i64::from(quant_max) - i64::from(quant_min) + 1;
        let n_levels = usize::try_from(if one_sided { n_levels } else { n_levels / 2 }).unwrap_or(N_BINS);
        // A grid as fine as the bins has nothing to lose.
        if largest == 0.0 || n_levels >= N_BINS {
            return whole;
        }
        let bins = linear_bins(sketch, largest);
        let thresholds = (n_levels..=N_BINS).step_by(THRESHOLD_STEP);
        let clipped = |threshold: usize| {
            let clip = (largest * threshold as f64 / N_BINS as f64) as f32;
            Range {
                min: whole.min.min(0.0).max(-clip),
                max: whole.max.max(0.0).min(clip),
            }
        };
        let noise = Noise::new(sketch.points());
        let most = noise.error(whole, scheme);
        let mut best = (f64::INFINITY, whole);
        for threshold in thresholds {
            let range = clipped(threshold);
            let here = divergence(&bins, threshold, n_levels);
            if here < best.0 && noise.error(range, scheme) <= most {
                best = (here, range);
            }
        }
        best.1
    }
}

/// The magnitudes in bins of equal width. A point is spread over the width that its own bin had, so that no linear bin
/// between two of them looks empty.
fn linear_bins(sketch: &Sketch, largest: f64) -> Vec<f64> {
    let mut bins = vec![0.0; N_BINS];
    for point in sketch.points() {
        let magnitude = point.value.abs();
        let place = magnitude / largest * N_BINS as f64;
        let half_width = place / 128.0;
        let first = ((place - half_width) as usize).min(N_BINS - 1);
        let last = ((place + half_width) as usize).min(N_BINS - 1);
        let each = point.count / (last - first + 1) as f64;
        bins[first..=last].iter_mut().for_each(|bin| *bin += each);
    }
    // Elements that are exactly 0 stay so on any grid: they tell nothing of a threshold.
    bins[0] = bins[1];
    bins
}

/// The divergence of the first `threshold` bins, with everything above in the last, from themselves on `n_levels` levels.
fn divergence(bins: &[f64], threshold: usize, n_levels: usize) -> f64 {
    let clipped: f64 = bins[threshold..].iter().sum();
    let total: f64 = bins.iter().sum();
    let mut sum = 0.0;
    let mut left_total = 0.0;
    for level in 0..n_levels {
        let (from, to) = (level * threshold / n_levels, (level + 1) * threshold / n_levels);
        let inside = &bins[from..to];
        let n_filled = inside.iter().filter(|&&count| count > 0.0).count();
        if n_filled == 0 {
            continue;
        }
        let mass: f64 = inside.iter().sum();
        let each = mass / n_filled as f64;
        left_total += mass;
        for (idx, &count) in inside.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let count = if from + idx + 1 == threshold {
                count + clipped
            } else {
                count
            };
            sum += count * (count / each).ln();
        }
    }
    if bins[threshold - 1] == 0.0 && clipped > 0.0 {
        // Everything above falls where nothing is left.
        return f64::INFINITY;
    }
    if total == 0.0 || left_total == 0.0 {
        return f64::INFINITY;
    }
    sum / total + (left_total / total).ln()
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    #[test]
    fn a_long_thin_tail_is_clipped_and_a_flat_distribution_is_not() {
        let scheme = QuantScheme::asymmetric(DType::Int8);
        let flat: Vec<f32> = (0..16_000_i16).map(|i| f32::from(i) / 16_000.0).collect();
        let mut sketch = Sketch::default();
        sketch.observe(&flat, Range { min: 0.0, max: 1.0 });
        let range = Entropy.range(&sketch, &scheme);
        assert!(range.max > 0.9, "{range:?}");
        // So many that the steps lost to three outliers cost more than the outliers.
        for _ in 0..100 {
            sketch.observe(&flat, Range { min: 0.0, max: 1.0 });
        }
        for outlier in [3.0, 5.0, 9.0] {
            sketch.observe(
                &[outlier],
                Range {
                    min: outlier,
                    max: outlier,
                },
            );
        }
        let range = Entropy.range(&sketch, &scheme);
        assert!(range.max < 5.0, "{range:?}");
    }
}

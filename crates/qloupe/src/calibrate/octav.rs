//! `octav`: the clipping that balances rounding and clipping error, by Newton's method.

use qloupe_tensor::{QuantScheme, Range};

use super::histogram::Point;
use super::{Algorithm, Sketch};

/// Newton's method converges in far fewer.
const MAX_STEPS: usize = 100;
/// Relative change at which it has converged.
const CONVERGED: f64 = 1e-6;

/// The optimally clipped range.
///
/// `s' = sum_{|x| > s} |x| / (r n_{0 < |x| <= s} + n_{|x| > s})`, where `r s^2` is the mean squared rounding error:
/// `r = 1/12 (2/255)^2` for a range of both signs, `1/12 (1/255)^2` for one of one sign.
///
/// # Source
/// Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation", equation 6; the factor is that of the grid in
/// use instead of `4^-B / 3`.
#[derive(Debug)]
pub(super) struct Octav;

impl Algorithm for Octav {
    fn id(&self) -> &'static str {
        "octav"
    }

    fn title(&self) -> &'static str {
        "clipping that balances rounding and clipping, by Newton's method"
    }

    fn range(&self, sketch: &Sketch, scheme: &QuantScheme) -> Range {
        let whole = sketch.range();
        let one_sided = !scheme.symmetric && (whole.min >= 0.0 || whole.max <= 0.0);
        let (quant_min, quant_max) = scheme.quant_range().unwrap_or((0, 255));
        let steps = f64::from(quant_max) - f64::from(quant_min);
        let step = if one_sided { 1.0 } else { 2.0 } / steps;
        let clip = newton(&sketch.points(), step * step / 12.0);
        Range {
            min: whole.min.min(0.0).max(-clip as f32),
            max: whole.max.max(0.0).min(clip as f32),
        }
    }
}

fn newton(points: &[Point], rounding: f64) -> f64 {
    let nonzero = || points.iter().filter(|point| point.value != 0.0);
    let count: f64 = nonzero().map(|point| point.count).sum();
    if count == 0.0 {
        return 0.0;
    }
    let largest = nonzero().map(|point| point.value.abs()).fold(0.0, f64::max);
    let mut clip = nonzero().map(|p| p.value.abs() * p.count).sum::<f64>() / count;
    for _ in 0..MAX_STEPS {
        let (mut outside, mut n_outside) = (0.0, 0.0);
        for point in nonzero().filter(|point| point.value.abs() > clip) {
            outside += point.value.abs() * point.count;
            n_outside += point.count;
        }
        let next = outside / (rounding * (count - n_outside) + n_outside);
        if n_outside == 0.0 || (next - clip).abs() <= CONVERGED * clip {
            break;
        }
        clip = next;
    }
    clip.min(largest)
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::super::noise::Noise;
    use super::*;

    #[test]
    fn its_error_is_near_the_least() {
        // A two-sided exponential distribution.
        let values: Vec<f32> = (1..=16_000_i16)
            .map(|i| -(f32::from(i) / 16_001.0).ln() * if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let whole = Range {
            min: values.iter().copied().fold(0.0, f32::min),
            max: values.iter().copied().fold(0.0, f32::max),
        };
        let mut sketch = Sketch::default();
        sketch.observe(&values, whole);
        let scheme = QuantScheme::asymmetric(DType::Int8);
        let noise = Noise::new(sketch.points());
        let least = noise.error(super::super::mse::least_error(&noise, whole, &scheme), &scheme);
        let octav = noise.error(Octav.range(&sketch, &scheme), &scheme);
        assert!(octav < 1.1 * least, "{octav} against {least}");
    }
}

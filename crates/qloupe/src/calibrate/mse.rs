//! `mse`: the range with the smallest squared error.

use qloupe_tensor::{QuantScheme, Range};

use super::noise::Noise;
use super::{Algorithm, Sketch};

/// The first search tries ranges down to this part of the whole one ...
const SMALLEST_PART: f64 = 0.02;
/// ... in this many steps, each the same factor.
const N_COARSE: i32 = 64;
/// A finer search between the neighbours of the best.
const N_FINE: i32 = 16;
/// Both ends of a range are searched in turn, this often.
const N_ROUNDS: usize = 3;

/// Least squared error between the values and what is left of them. The vendor calls it `mmse`.
#[derive(Debug)]
pub(super) struct Mse;

impl Algorithm for Mse {
    fn id(&self) -> &'static str {
        "mse"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["mmse"]
    }

    fn title(&self) -> &'static str {
        "the range with the least squared error"
    }

    fn range(&self, sketch: &Sketch, scheme: &QuantScheme) -> Range {
        least_error(&Noise::new(sketch.points()), sketch.range(), scheme)
    }
}

/// The range inside `whole` with the least squared error.
pub(crate) fn least_error(noise: &Noise, whole: Range, scheme: &QuantScheme) -> Range {
    let scaled = |min: f64, max: f64| Range {
        min: (f64::from(whole.min) * min) as f32,
        max: (f64::from(whole.max) * max) as f32,
    };
    if scheme.symmetric {
        let part = least(&|part| noise.error(scaled(part, part), scheme));
        return scaled(part, part);
    }
    let mut parts = (1.0, 1.0);
    for _ in 0..N_ROUNDS {
        let before = parts;
        if whole.max > 0.0 {
            parts.1 = least(&|part| noise.error(scaled(parts.0, part), scheme));
        }
        if whole.min < 0.0 {
            parts.0 = least(&|part| noise.error(scaled(part, parts.1), scheme));
        }
        if parts == before {
            break;
        }
    }
    scaled(parts.0, parts.1)
}

/// The part of a whole, from 1 down, where `error` is least; the larger one where two are alike.
fn least(error: &dyn Fn(f64) -> f64) -> f64 {
    let factor = SMALLEST_PART.powf(1.0 / f64::from(N_COARSE));
    let search = |first: i32, last: i32, part: &dyn Fn(i32) -> f64| -> (f64, i32) {
        let mut best = (error(part(first)), first);
        for step in first + 1..=last {
            let here = error(part(step));
            if here < best.0 {
                best = (here, step);
            }
        }
        best
    };
    let coarse = |step: i32| factor.powi(step);
    let (least_coarse, step) = search(0, N_COARSE, &coarse);
    let from = coarse(step - 1).min(1.0);
    let width = from - coarse(step + 1);
    let fine = |step: i32| from - width * f64::from(step) / f64::from(N_FINE);
    let (least_fine, fine_step) = search(1, N_FINE - 1, &fine);
    if least_fine < least_coarse {
        fine(fine_step)
    } else {
        coarse(step)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    #[test]
    fn one_outlier_among_many_is_clipped() {
        let mut values = vec![0.0; 100_000];
        for (idx, value) in values.iter_mut().enumerate() {
            *value = (idx % 100) as f32 / 100.0;
        }
        let mut sketch = Sketch::default();
        sketch.observe(&values, Range { min: 0.0, max: 0.99 });
        sketch.observe(&[40.0], Range { min: 40.0, max: 40.0 });
        let range = Mse.range(&sketch, &QuantScheme::asymmetric(DType::UInt4));
        assert!(range.max < 20.0 && range.max > 0.9, "{range:?}");
        assert!(range.min >= 0.0, "{range:?}");
    }
}

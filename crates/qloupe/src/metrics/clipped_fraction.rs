//! `clipped_fraction`: how much of the golden value does not fit the scale.

use super::{Direction, Metric, Moments, Reduction};

/// The fraction of elements that the range cuts off.
///
/// `#{r < min - step/2 or r > max + step/2} / #{r}`, over all elements.
///
/// # Units
/// Fraction, lower is better.
/// # Edge cases
/// Absent where the tested value has no range, because it runs in float.
pub(super) struct ClippedFraction;

impl Metric for ClippedFraction {
    fn id(&self) -> &'static str {
        "clipped_fraction"
    }
    fn title(&self) -> &'static str {
        "clipped"
    }
    fn unit(&self) -> &'static str {
        "fraction"
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "#{r outside the range by more than half a step} / #{r}"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Pooled
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        let n = moments.n_ranged;
        (n > 0).then(|| moments.n_clipped as f64 / n as f64)
    }
}

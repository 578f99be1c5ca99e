//! `euclidean`: the distance, not normalized, as the vendor's tables print it.

use super::{Direction, Metric, Moments, Reduction};

/// The Euclidean distance.
///
/// `sqrt(sum((t - r)^2))`, the mean over samples.
///
/// # Units
/// The value's own unit, lower is better. Grows with the number of elements; `rmse` does not.
pub(super) struct Euclidean;

impl Metric for Euclidean {
    fn id(&self) -> &'static str {
        "euclidean"
    }
    fn title(&self) -> &'static str {
        "euclidean"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "sqrt(sum((t - r)^2))"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        Some(moments.error_sq().sqrt())
    }
}

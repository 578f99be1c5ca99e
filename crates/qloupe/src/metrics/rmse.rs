//! `rmse`: the size of the error of a typical element.

use super::{Direction, Metric, Moments, Reduction};

/// The root of the mean squared error.
///
/// `sqrt(sum((t - r)^2) / n)`, the mean over samples.
///
/// # Units
/// The value's own unit, lower is better.
pub(super) struct Rmse;

impl Metric for Rmse {
    fn id(&self) -> &'static str {
        "rmse"
    }
    fn title(&self) -> &'static str {
        "rmse"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "sqrt(sum((t - r)^2) / n)"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        Some(moments.per_element(moments.error_sq()).sqrt())
    }
}

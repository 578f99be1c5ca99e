//! `mean_error`: the bias that quantization adds.

use super::{Direction, Metric, Moments, Reduction};

/// The mean signed error.
///
/// `sum(t - r) / n`, over all elements.
///
/// # Units
/// The value's own unit, nearer to zero is better. Above zero the test is too large.
/// # Edge cases
/// NaN where the test has infinities of both signs.
pub(super) struct MeanError;

impl Metric for MeanError {
    fn id(&self) -> &'static str {
        "mean_error"
    }
    fn title(&self) -> &'static str {
        "mean error"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::TowardZero
    }
    fn formula(&self) -> &'static str {
        "sum(t - r) / n"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Pooled
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        Some(moments.per_element(moments.error()))
    }
}

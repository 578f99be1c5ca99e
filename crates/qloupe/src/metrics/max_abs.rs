//! `max_abs`: the largest error of one element.

use super::{Direction, Metric, Moments, Reduction};

/// The largest absolute error.
///
/// `max |t - r|`, over all elements and samples.
///
/// # Units
/// The value's own unit, lower is better.
pub(super) struct MaxAbs;

impl Metric for MaxAbs {
    fn id(&self) -> &'static str {
        "max_abs"
    }
    fn title(&self) -> &'static str {
        "max abs"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "max |t - r|"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Worst
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        Some(moments.max_abs)
    }
}

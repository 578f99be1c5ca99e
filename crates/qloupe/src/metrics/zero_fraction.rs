//! `zero_fraction`: how much of the golden value vanishes.

use super::{Direction, Metric, Moments, Reduction};

/// The fraction of elements that become zero.
///
/// `#{r != 0 and t == 0} / n`, over all elements.
///
/// # Units
/// Fraction, lower is better. Near 1 the scale is too coarse for the value.
pub(super) struct ZeroFraction;

impl Metric for ZeroFraction {
    fn id(&self) -> &'static str {
        "zero_fraction"
    }
    fn title(&self) -> &'static str {
        "zeroed"
    }
    fn unit(&self) -> &'static str {
        "fraction"
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "#{r != 0 and t == 0} / n"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Pooled
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        Some(moments.per_element(moments.n_zeroed as f64))
    }
}

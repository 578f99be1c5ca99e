//! `cosine`: whether both tensors point the same way.

use super::{Direction, Metric, Moments, Reduction};

/// The cosine of the angle between the tensors.
///
/// `sum(r t) / sqrt(sum(r^2) sum(t^2))`, the mean over samples.
///
/// # Units
/// -1 to 1, higher is better. Blind to a common factor and to elements that are small beside others: 0.9998 can be a
/// dead detector.
/// # Edge cases
/// Both zero: 1. One of them zero, or an infinite test: 0.
pub(super) struct Cosine;

impl Metric for Cosine {
    fn id(&self) -> &'static str {
        "cosine"
    }
    fn title(&self) -> &'static str {
        "cosine"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::Higher
    }
    fn formula(&self) -> &'static str {
        "sum(r t) / sqrt(sum(r^2) sum(t^2))"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        let (r, t) = (moments.reference_sq(), moments.test_sq());
        Some(if r == 0.0 && t == 0.0 {
            1.0
        } else if r == 0.0 || t == 0.0 || t.is_infinite() {
            0.0
        } else {
            (moments.product() / (r * t).sqrt()).clamp(-1.0, 1.0)
        })
    }
}

//! `euclidean_rel`: the distance relative to the size of the reference.

use super::{Direction, Metric, Moments, Reduction};

/// The relative Euclidean distance.
///
/// `sqrt(sum((t - r)^2) / sum(r^2))`, the mean over samples.
///
/// # Units
/// A ratio, lower is better.
/// # Edge cases
/// Both zero: 0. Only the reference zero: +inf.
pub(super) struct EuclideanRel;

impl Metric for EuclideanRel {
    fn id(&self) -> &'static str {
        "euclidean_rel"
    }
    fn title(&self) -> &'static str {
        "rel. error"
    }
    fn unit(&self) -> &'static str {
        ""
    }
    fn direction(&self) -> Direction {
        Direction::Lower
    }
    fn formula(&self) -> &'static str {
        "sqrt(sum((t - r)^2) / sum(r^2))"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        let error = moments.error_sq();
        Some(if error == 0.0 {
            0.0
        } else {
            (error / moments.reference_sq()).sqrt()
        })
    }
}

//! `sqnr_db`: signal to quantization noise.

use super::{Direction, Metric, Moments, Reduction};

/// The ratio of signal to quantization noise.
///
/// `10 log10(sum(r^2) / sum((t - r)^2))`, pooled over all samples and elements.
///
/// # Units
/// dB, higher is better; 6 dB are one bit.
/// # Edge cases
/// Equal tensors: +inf. Only the test zero: 0 dB. Only the reference zero, or an infinite test: -inf.
pub(super) struct SqnrDb;

impl Metric for SqnrDb {
    fn id(&self) -> &'static str {
        "sqnr_db"
    }
    fn title(&self) -> &'static str {
        "sqnr"
    }
    fn unit(&self) -> &'static str {
        "dB"
    }
    fn direction(&self) -> Direction {
        Direction::Higher
    }
    fn formula(&self) -> &'static str {
        "10 log10(sum(r^2) / sum((t - r)^2))"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Pooled
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        let error = moments.error_sq();
        Some(if error == 0.0 {
            f64::INFINITY
        } else {
            10.0 * (moments.reference_sq() / error).log10()
        })
    }
}

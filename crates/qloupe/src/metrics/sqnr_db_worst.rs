//! `sqnr_db_worst`: signal to quantization noise of the worst sample.

use super::sqnr_db::SqnrDb;
use super::{Direction, Metric, Moments, Reduction};

/// The ratio of signal to quantization noise of the worst sample.
///
/// `min over samples of 10 log10(sum(r^2) / sum((t - r)^2))`.
///
/// # Units
/// dB, higher is better. Far below `sqnr_db`: a few samples are bad.
/// # Edge cases
/// As `sqnr_db`.
pub(super) struct SqnrDbWorst;

impl Metric for SqnrDbWorst {
    fn id(&self) -> &'static str {
        "sqnr_db_worst"
    }
    fn title(&self) -> &'static str {
        "sqnr worst"
    }
    fn unit(&self) -> &'static str {
        "dB"
    }
    fn direction(&self) -> Direction {
        Direction::Higher
    }
    fn formula(&self) -> &'static str {
        "min over samples of 10 log10(sum(r^2) / sum((t - r)^2))"
    }
    fn reduction(&self) -> Reduction {
        Reduction::Worst
    }
    fn of(&self, moments: &Moments) -> Option<f64> {
        SqnrDb.of(moments)
    }
}

//! `auto`: every algorithm is raced, and each value keeps the range that costs its consumers least.

use qloupe_tensor::{QuantScheme, Range};

use super::{Algorithm, Sketch, mse};

/// The race itself needs runs: it is in [`crate::optimize`]. From statistics alone the best guess is that of `mse`.
#[derive(Debug)]
pub(super) struct Auto;

impl Algorithm for Auto {
    fn id(&self) -> &'static str {
        "auto"
    }

    fn title(&self) -> &'static str {
        "all of them; each value keeps the range that costs the units which read it least"
    }

    fn races(&self) -> bool {
        true
    }

    fn range(&self, sketch: &Sketch, scheme: &QuantScheme) -> Range {
        mse::Mse.range(sketch, scheme)
    }
}

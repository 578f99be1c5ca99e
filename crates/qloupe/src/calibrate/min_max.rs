//! `min_max`: the smallest and the largest value that was seen.

use qloupe_tensor::{QuantScheme, Range};

use super::{Algorithm, Sketch};

/// The whole range, outliers included. The vendor calls it `normal`.
#[derive(Debug)]
pub(super) struct MinMax;

impl Algorithm for MinMax {
    fn id(&self) -> &'static str {
        "min_max"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["normal", "minmax"]
    }

    fn title(&self) -> &'static str {
        "the whole range that was seen, outliers included"
    }

    fn needs_ranges_only(&self) -> bool {
        true
    }

    fn range(&self, sketch: &Sketch, _scheme: &QuantScheme) -> Range {
        sketch.range()
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    #[test]
    fn the_range_covers_every_sample() {
        let scheme = QuantScheme::asymmetric(DType::Int8);
        let mut sketch = Sketch::default();
        sketch.observe(&[], Range { min: -2.0, max: 1.0 });
        sketch.observe(&[], Range { min: 5.0, max: 5.0 });
        assert_eq!(MinMax.range(&sketch, &scheme), Range { min: -2.0, max: 5.0 });
        assert_eq!(
            MinMax.range(&Sketch::default(), &scheme),
            Range { min: 0.0, max: 0.0 }
        );
    }
}

//! `percentile`: the range without the rarest elements at both ends.

use qloupe_tensor::{QuantScheme, Range};

use super::{Algorithm, Sketch};

/// The part of all elements that stays inside, as ONNX Runtime's calibration has it.
const INSIDE: f64 = 0.999_99;

/// 99.999% of all elements: half of the others at either end.
#[derive(Debug)]
pub(super) struct Percentile;

impl Algorithm for Percentile {
    fn id(&self) -> &'static str {
        "percentile"
    }

    fn title(&self) -> &'static str {
        "the range of 99.999% of all elements"
    }

    fn range(&self, sketch: &Sketch, _scheme: &QuantScheme) -> Range {
        inside(sketch, INSIDE)
    }
}

/// The range that holds a part of all elements.
pub(crate) fn inside(sketch: &Sketch, part: f64) -> Range {
    let points = sketch.points();
    let total: f64 = points.iter().map(|point| point.count).sum();
    let outside = total * (1.0 - part) / 2.0;
    let whole = sketch.range();
    let end = |points: &mut dyn Iterator<Item = f64>, counts: &mut dyn Iterator<Item = f64>, whole: f32| {
        let mut passed = 0.0;
        for (value, count) in points.zip(counts) {
            passed += count;
            if passed > outside {
                return value as f32;
            }
        }
        whole
    };
    // Less than one element outside: nothing is cut off, and the ends are exact.
    if outside < 1.0 {
        return whole;
    }
    let values = || points.iter().map(|point| point.value);
    let counts = || points.iter().map(|point| point.count);
    Range {
        min: end(&mut values(), &mut counts(), whole.min),
        max: end(&mut values().rev(), &mut counts().rev(), whole.max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_elements_are_outside_at_either_end() {
        let mut sketch = Sketch::default();
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 - 5000.0).collect();
        sketch.observe(
            &values,
            Range {
                min: -5000.0,
                max: 4999.0,
            },
        );
        let range = inside(&sketch, 0.5);
        assert!(
            (range.min + 2500.0).abs() < 50.0 && (range.max - 2500.0).abs() < 50.0,
            "{range:?}"
        );
        assert_eq!(
            inside(&sketch, INSIDE),
            sketch.range(),
            "less than one element is outside"
        );
    }
}

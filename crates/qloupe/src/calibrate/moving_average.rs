//! `moving_average`: the ends of the range follow those of each sample, slowly.

use qloupe_tensor::{QuantScheme, Range};

use super::{Algorithm, Sketch};

/// How far the range moves towards each sample, as ONNX Runtime and PyTorch have it.
const AVERAGING: f64 = 0.01;

/// An exponential average of the smallest and largest values of samples, which begins at the first.
#[derive(Debug)]
pub(super) struct MovingAverage;

impl Algorithm for MovingAverage {
    fn id(&self) -> &'static str {
        "moving_average"
    }

    fn title(&self) -> &'static str {
        "an average of the ranges of samples, in their order"
    }

    fn needs_ranges_only(&self) -> bool {
        true
    }

    fn range(&self, sketch: &Sketch, _scheme: &QuantScheme) -> Range {
        let Some(first) = sketch.samples().first() else {
            return sketch.range();
        };
        let mut ends = [f64::from(first.min), f64::from(first.max)];
        for sample in &sketch.samples()[1..] {
            for (end, seen) in ends.iter_mut().zip([sample.min, sample.max]) {
                *end += AVERAGING * (f64::from(seen) - *end);
            }
        }
        Range {
            min: ends[0] as f32,
            max: ends[1] as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    #[test]
    fn the_first_sample_counts_most() {
        let mut sketch = Sketch::default();
        sketch.observe(&[], Range { min: -1.0, max: 1.0 });
        sketch.observe(&[], Range { min: 0.0, max: 101.0 });
        let range = MovingAverage.range(&sketch, &QuantScheme::asymmetric(DType::Int8));
        assert_eq!(range, Range { min: -0.99, max: 2.0 });
    }
}

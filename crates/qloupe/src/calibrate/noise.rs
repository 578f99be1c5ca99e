//! The squared error that a range costs, from a histogram.

use qloupe_tensor::{QuantParams, QuantScheme, Range, Rounding, params_from_range};

use super::histogram::Point;

/// Magnitudes of at least this many steps are taken to lie anywhere between two grid points: their bins are wide beside a
/// step. Smaller ones are rounded one by one.
const UNIFORM_FROM_STEPS: f64 = 24.0;

/// Points in ascending order with sums over all before each, so that the error of a range takes few operations.
#[derive(Debug)]
pub struct Noise {
    points: Vec<Point>,
    /// Sums of count, count * value and count * value^2 over the points before.
    sums: Vec<[f64; 3]>,
}

impl Noise {
    /// The sums of points in ascending order.
    pub fn new(points: Vec<Point>) -> Self {
        let mut sums = Vec::with_capacity(points.len() + 1);
        let mut sum = [0.0; 3];
        sums.push(sum);
        for point in &points {
            sum[0] += point.count;
            sum[1] += point.count * point.value;
            sum[2] += point.count * point.value * point.value;
            sums.push(sum);
        }
        Self { points, sums }
    }

    /// The number of elements.
    pub fn count(&self) -> f64 {
        self.sums[self.points.len()][0]
    }

    /// The sum of squares of all elements.
    pub fn energy(&self) -> f64 {
        self.sums[self.points.len()][2]
    }

    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The sum over all elements of `(x - q(x))^2` under a range: rounding inside it, clipping outside. Infinite for a range
    /// that makes no parameters.
    pub fn error(&self, range: Range, scheme: &QuantScheme) -> f64 {
        let Ok((params, _)) = params_from_range(&[range], scheme) else {
            return f64::INFINITY;
        };
        self.error_of(&params, scheme.rounding)
    }

    fn error_of(&self, params: &QuantParams, rounding: Rounding) -> f64 {
        let scale = f64::from(params.scale()[0]);
        let (low, high) = params.real_range(0);
        let below = self.points.partition_point(|p| p.value < low);
        let above = self.points.partition_point(|p| p.value <= high);
        let exact = UNIFORM_FROM_STEPS * scale;
        let small_from = self
            .points
            .partition_point(|p| p.value <= -exact)
            .clamp(below, above);
        let small_to = self
            .points
            .partition_point(|p| p.value < exact)
            .clamp(small_from, above);
        let uniform = self.sum(0, below, small_from) + self.sum(0, small_to, above);
        let rounded = |point: &Point| {
            let steps = point.value / scale;
            let error = (steps - f64::from(rounding.round(steps as f32))) * scale;
            point.count * error * error
        };
        let small: f64 = self.points[small_from..small_to].iter().map(rounded).sum();
        let clipped = self.distance(0, below, low) + self.distance(above, self.points.len(), high);
        uniform * scale * scale / 12.0 + small + clipped
    }

    fn sum(&self, power: usize, from: usize, to: usize) -> f64 {
        self.sums[to][power] - self.sums[from][power]
    }

    /// The sum of squared distances of points `from..to` to one value.
    fn distance(&self, from: usize, to: usize, end: f64) -> f64 {
        let squared =
            self.sum(2, from, to) - 2.0 * end * self.sum(1, from, to) + end * end * self.sum(0, from, to);
        squared.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    /// How far the error from a histogram may be from that of the elements.
    const TOLERANCE: f64 = 0.1;

    fn noise(values: &[f32]) -> (Noise, Range) {
        let mut sketch = super::super::Sketch::default();
        let range = Range {
            min: values.iter().copied().fold(f32::INFINITY, f32::min),
            max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        };
        sketch.observe(values, range);
        (Noise::new(sketch.points()), range)
    }

    #[test]
    fn the_error_is_that_of_quantizing_every_element() {
        let scheme = QuantScheme::asymmetric(DType::Int8);
        let values: Vec<f32> = (0..20_000_u32)
            .map(|i| {
                let x = f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1_u32 << 24) - 0.3;
                (x * x * x * 5.0) as f32
            })
            .collect();
        let (noise, range) = noise(&values);
        for shrink in [1.0, 0.8, 0.5, 0.2, 0.05] {
            let range = Range {
                min: range.min * shrink,
                max: range.max * shrink,
            };
            let (params, _) = params_from_range(&[range], &scheme).unwrap();
            let tensor = qloupe_tensor::Tensor::new(&[values.len()], values.clone()).unwrap();
            let quantized = qloupe_tensor::fake_quantize_linear(&tensor, &params, scheme.rounding).unwrap();
            let squared = |(a, b): (&f32, &f32)| f64::from(a - b) * f64::from(a - b);
            let exact: f64 = values
                .iter()
                .zip(quantized.require::<f32>().unwrap())
                .map(squared)
                .sum();
            let counted = values.len() as f64 / noise.count();
            let estimated = noise.error(range, &scheme) * counted;
            assert!(
                (estimated / exact - 1.0).abs() < TOLERANCE,
                "{shrink}: {estimated} against {exact}"
            );
        }
    }

    #[test]
    fn values_on_the_grid_cost_nothing() {
        let (noise, range) = noise(&[0.0, 255.0]);
        let error = noise.error(range, &QuantScheme::asymmetric(DType::UInt8));
        assert!(error < 255.0 * 255.0 * 1e-3, "{error}");
    }
}

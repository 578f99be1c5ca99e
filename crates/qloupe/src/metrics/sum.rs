//! A sum in twice the precision of f64, so that the order in which parts are combined does not show in the result.

/// A sum whose rounding errors are kept and added too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    /// The sum of one number.
    pub(crate) fn of(x: f64) -> Self {
        Self { high: x, low: 0.0 }
    }

    /// Adds a number.
    pub(crate) fn add(&mut self, x: f64) {
        let sum = self.high + x;
        if !sum.is_finite() {
            *self = Self { high: sum, low: 0.0 };
            return;
        }
        let part = sum - self.high;
        let error = (self.high - (sum - part)) + (x - part);
        let low = self.low + error;
        self.high = sum + low;
        self.low = low - (self.high - sum);
    }

    /// Adds the square of a number, without rounding it first.
    pub(crate) fn add_square(&mut self, x: f64) {
        let square = x * x;
        self.add(square);
        self.add(x.mul_add(x, -square));
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.high);
        if other.low != 0.0 {
            self.add(other.low);
        }
    }

    /// The sum, rounded once.
    pub(crate) fn get(self) -> f64 {
        self.high + self.low
    }

    /// The variance of `n` numbers of which this is the sum and `squares` the sum of squares.
    pub(crate) fn variance(self, squares: Self, n: f64) -> f64 {
        // (squares - sum^2 / n) / n, the difference in double precision.
        let mean = self.get() / n;
        let product = mean * self.high;
        let rest = mean.mul_add(self.high, -product) + mean * self.low;
        let mut difference = squares;
        difference.add(-product);
        difference.add(-rest);
        // mean is rounded: sum = n * mean + n * shift, of which sum * shift is still to subtract.
        let shift = ((-mean).mul_add(n, self.high) + self.low) / n;
        difference.add(-shift * self.high);
        (difference.get() / n).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the sums are exact")]
    fn what_f64_loses_is_kept() {
        let mut sum = Sum::default();
        for x in [1e16, 1.0, 1.0, -1e16] {
            sum.add(x);
        }
        assert!(sum.get() == 2.0, "{sum:?}");
        sum.add(f64::INFINITY);
        sum.add(1.0);
        assert!(sum.get() == f64::INFINITY, "{sum:?}");
    }

    #[test]
    fn a_small_variance_beside_a_large_mean_survives() {
        let (mut sum, mut squares) = (Sum::default(), Sum::default());
        for x in [1e6 + 1e-3, 1e6 - 1e-3] {
            sum.add(x);
            squares.add_square(x);
        }
        let variance = sum.variance(squares, 2.0);
        assert!((variance / 1e-6 - 1.0).abs() < 1e-6, "{variance}");
    }
}

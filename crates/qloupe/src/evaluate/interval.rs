//! How sure a share of successes is.

/// The 97.5% quantile of the normal distribution: 95% lie between both tails.
const Z: f64 = 1.959_963_984_540_054_2;

/// Successes among trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Successes.
    pub n_hits: usize,
    /// Trials.
    pub n: usize,
}

impl Hits {
    /// One trial.
    pub fn one(is_hit: bool) -> Self {
        Self {
            n_hits: usize::from(is_hit),
            n: 1,
        }
    }

    /// Adds other trials.
    pub fn add(&mut self, other: Self) {
        self.n_hits += other.n_hits;
        self.n += other.n;
    }

    /// The share of successes; 0 without trials.
    pub fn share(self) -> f64 {
        self.n_hits as f64 / self.n.max(1) as f64
    }

    /// The 95% confidence interval of the share.
    ///
    /// `(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)` with `z = 1.96`.
    ///
    /// # Edge cases
    /// Without trials anything is possible: 0 to 1.
    /// # Source
    /// E. B. Wilson, 1927, the score interval: it stays within 0 and 1, and is right for few trials too.
    pub fn wilson_interval(self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.n as f64, self.share());
        let centre = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let whole = 1.0 + Z * Z / n;
        let low = if self.n_hits == 0 {
            0.0
        } else {
            (centre - half) / whole
        };
        let high = if self.n_hits == self.n {
            1.0
        } else {
            (centre + half) / whole
        };
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of SciPy's `binomtest(..).proportion_ci(method="wilson")`.
    #[test]
    fn the_interval_is_wilsons() {
        struct Case {
            n_hits: usize,
            n: usize,
            interval: (f64, f64),
        }
        let cases = [
            Case {
                n_hits: 0,
                n: 10,
                interval: (0.0, 0.27753279986288926),
            },
            Case {
                n_hits: 10,
                n: 10,
                interval: (0.7224672001371109, 1.0),
            },
            Case {
                n_hits: 9149,
                n: 10000,
                interval: (0.9092705123088065, 0.9202108458432061),
            },
            Case {
                n_hits: 17,
                n: 20,
                interval: (0.6395811352592431, 0.9476312541037835),
            },
            Case {
                n_hits: 0,
                n: 0,
                interval: (0.0, 1.0),
            },
        ];
        const TOLERANCE: f64 = 1e-12;
        for Case { n_hits, n, interval } in cases {
            let (low, high) = Hits { n_hits, n }.wilson_interval();
            assert!(
                (low - interval.0).abs() < TOLERANCE && (high - interval.1).abs() < TOLERANCE,
                "{n_hits} of {n}: {low} to {high}"
            );
        }
    }
}

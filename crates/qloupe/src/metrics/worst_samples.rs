//! The samples with the largest errors, in bounded memory.

/// Samples that are kept.
const N_KEPT: usize = 3;

/// Which samples have the lowest signal to noise ratio.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WorstSamples {
    /// Index and `sqnr_db`, the worst first; of equal ones the first sample.
    kept: Vec<(usize, f64)>,
}

impl WorstSamples {
    /// Adds a sample. One that is exact is no error.
    pub(super) fn add(&mut self, index: usize, sqnr_db: f64) {
        if sqnr_db == f64::INFINITY {
            return;
        }
        // NaN is the worst: nothing could be compared.
        let key = |db: f64| if db.is_nan() { f64::NEG_INFINITY } else { db };
        self.kept.push((index, sqnr_db));
        self.kept
            .sort_by(|a, b| key(a.1).total_cmp(&key(b.1)).then(a.0.cmp(&b.0)));
        self.kept.truncate(N_KEPT);
    }

    /// Adds what another one kept.
    pub(super) fn merge(&mut self, other: &Self) {
        other
            .kept
            .iter()
            .for_each(|(index, sqnr_db)| self.add(*index, *sqnr_db));
    }

    /// Index and `sqnr_db`, the worst first.
    pub(super) fn get(&self) -> &[(usize, f64)] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[(usize, f64)]) -> WorstSamples {
        let mut worst = WorstSamples::default();
        samples
            .iter()
            .for_each(|(index, sqnr_db)| worst.add(*index, *sqnr_db));
        worst
    }

    #[test]
    fn the_three_worst_are_kept_in_their_order() {
        let samples = [
            (0, 30.0),
            (1, f64::INFINITY),
            (2, 10.0),
            (3, 30.0),
            (4, f64::NEG_INFINITY),
            (5, 40.0),
        ];
        let kept = [(4, f64::NEG_INFINITY), (2, 10.0), (0, 30.0)];
        assert_eq!(of(&samples).get(), kept);
        let mut merged = of(&samples[3..]);
        merged.merge(&of(&samples[..3]));
        assert_eq!(merged.get(), kept, "in whichever order parts are merged");
        assert_eq!(of(&[(0, f64::INFINITY)]).get(), []);
    }
}

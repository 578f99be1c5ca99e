//! When more samples would tell nothing new: the ranking of the worst units no longer changes.

use super::{Analysis, Compared};
use crate::metrics::Comparison;

/// Units of the ranking.
const N_RANKED: usize = 10;
/// The fewest samples over which the ranking must have kept.
const MIN_UNCHANGED: usize = 4;
/// The share of the samples seen so far over which it must have kept, as a divisor.
const SHARE_UNCHANGED: usize = 4;

/// The worst units by `sqnr_db`, the worst first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranking {
    entire: Vec<usize>,
    local: Vec<usize>,
}

/// Watches the ranking of the worst units while samples stream through an analysis.
#[derive(Clone, Debug, Default)]
pub struct Stability {
    ranking: Ranking,
    n_samples: usize,
    /// Samples that had been seen when the ranking changed last.
    n_at_change: usize,
}

impl Stability {
    /// Looks at the analysis after a sample.
    pub fn observe(&mut self, analysis: &Analysis<'_>) {
        self.see(analysis.ranking(), analysis.n_samples);
    }

    fn see(&mut self, ranking: Ranking, n_samples: usize) {
        self.n_samples = n_samples;
        if ranking != self.ranking {
            self.ranking = ranking;
            self.n_at_change = n_samples;
        }
    }

    /// True once the ten worst units by `entire` and by `local` kept their order over the last quarter of the samples,
    /// and over at least four.
    pub fn is_stable(&self) -> bool {
        let needed = MIN_UNCHANGED.max(self.n_samples.div_ceil(SHARE_UNCHANGED));
        self.n_samples - self.n_at_change >= needed
    }

    /// What a reader has to know, of `n_given` samples.
    pub fn note(&self, n_given: usize) -> String {
        let (n, unchanged) = (self.n_samples, self.n_samples - self.n_at_change);
        if self.is_stable() {
            format!(
                "{n} of {n_given} samples used: the {N_RANKED} worst layers by entire and by local kept their order over the last \
                 {unchanged}"
            )
        } else {
            format!(
                "all {n} samples used: the order of the {N_RANKED} worst layers still changed {unchanged} samples before the end"
            )
        }
    }
}

impl Analysis<'_> {
    fn ranking(&self) -> Ranking {
        Ranking {
            entire: self.worst_rows(|compared| &compared.entire),
            local: self.worst_rows(|compared| &compared.local),
        }
    }

    /// The rows of the worst units in a view; exact ones are none of them.
    fn worst_rows(&self, view: fn(&Compared) -> &Comparison) -> Vec<usize> {
        let sqnr_db = |row_idx: usize| view(&self.compared[row_idx]).pooled_sqnr_db();
        let units = self.rows.iter().filter(|(_, row)| !row.node.is_empty());
        let mut ranked: Vec<(usize, f64)> = units
            .filter_map(|(row_idx, _)| Some((row_idx, sqnr_db(row_idx)?)))
            .filter(|(_, db)| *db != f64::INFINITY)
            .collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked.truncate(N_RANKED);
        ranked.into_iter().map(|(row_idx, _)| row_idx).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(entire: &[usize]) -> Ranking {
        Ranking {
            entire: entire.to_vec(),
            local: vec![1],
        }
    }

    #[test]
    fn a_ranking_that_keeps_ends_the_analysis() {
        let mut stability = Stability::default();
        for n in 1..=4 {
            stability.see(ranking(&[1, 2]), n);
            assert!(!stability.is_stable(), "{n}");
        }
        stability.see(ranking(&[1, 2]), 5);
        assert!(stability.is_stable(), "four after the first");
        assert_eq!(
            stability.note(20),
            "5 of 20 samples used: the 10 worst layers by entire and by local kept their order over the last 4"
        );
        stability.see(ranking(&[2, 1]), 40);
        for n in 41..54 {
            stability.see(ranking(&[2, 1]), n);
            assert!(!stability.is_stable(), "{n}: a quarter is more");
        }
        assert_eq!(
            stability.note(53),
            "all 53 samples used: the order of the 10 worst layers still changed 13 samples before the end"
        );
        stability.see(ranking(&[2, 1]), 54);
        assert!(stability.is_stable(), "14 of 54");
    }
}

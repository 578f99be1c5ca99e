//! Figures over samples, parts of outputs, and sources.

use crate::analyze::Decisions;
use crate::metrics::{Comparison, Moments};

/// Nothing is better, and nothing worse, than this.
const MAX_SQNR_DB: f64 = 100.0;

/// Spearman's rank correlation.
pub(super) fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let covariance =
        |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum() };
    covariance(&a, &b) / (covariance(&a, &a) * covariance(&b, &b)).sqrt()
}

fn ranks(figures: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..figures.len()).collect();
    order.sort_by(|&a, &b| figures[a].total_cmp(&figures[b]));
    let mut ranks = vec![0.0; figures.len()];
    for (rank, idx) in order.into_iter().enumerate() {
        ranks[idx] = rank as f64;
    }
    ranks
}

/// Adds samples, each with one measurement for each part.
pub(super) fn add(comparisons: &mut Vec<Comparison>, samples: impl Iterator<Item = Vec<Moments>>) {
    for sample in samples {
        comparisons.resize(sample.len(), Comparison::new());
        for (comparison, moments) in comparisons.iter_mut().zip(&sample) {
            comparison.add(moments);
        }
    }
}

/// Adds the answers of a sample, for each part.
pub(super) fn merge(all: &mut Vec<Option<Decisions>>, sample: Vec<Option<Decisions>>) {
    if all.is_empty() {
        *all = sample;
        return;
    }
    for (all, sample) in all.iter_mut().zip(sample) {
        match (all, sample) {
            (Some(all), Some(sample)) => all.merge(&sample),
            (all, sample) => *all = all.take().or(sample),
        }
    }
}

/// Noise over signal, the mean over parts.
pub(super) fn noise(parts: &[Comparison]) -> f64 {
    let relative = |part: &Comparison| {
        let (signal, noise) = part.energies();
        // Where it is not a number at all, everything is lost.
        if part.n_nan() > 0 {
            return 1.0;
        }
        noise / signal.max(f64::MIN_POSITIVE)
    };
    mean(parts.iter().map(relative))
}

/// Signal over noise in dB, the mean over parts: higher is better.
pub(crate) fn score_db(parts: &[Comparison]) -> f64 {
    let sqnr_db = |part: &Comparison| {
        let (signal, noise) = part.energies();
        if part.n_nan() > 0 {
            -MAX_SQNR_DB
        } else if noise == 0.0 {
            MAX_SQNR_DB
        } else {
            (10.0 * (signal / noise).log10()).clamp(-MAX_SQNR_DB, MAX_SQNR_DB)
        }
    };
    mean(parts.iter().map(sqnr_db))
}

fn mean(figures: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = figures.len();
    if n == 0 {
        0.0
    } else {
        figures.sum::<f64>() / n as f64
    }
}

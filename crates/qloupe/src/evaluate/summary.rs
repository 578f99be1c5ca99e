//! Scores as a report keeps them.

use super::{Hits, Question, Score};
use crate::report::{Accuracy, PrecisionScore, Share};

/// The scores of a question for a report.
pub fn accuracy(question: &Question, labels: String, scores: &[Score]) -> Accuracy {
    let score = |score: &Score| PrecisionScore {
        precision: score.precision.to_owned(),
        metrics: score
            .metrics
            .iter()
            .map(|(id, hits)| ((*id).to_owned(), share(*hits)))
            .collect(),
        agreement: score.agreement.map(share),
    };
    Accuracy {
        task: question.task.to_owned(),
        output: question.output.clone(),
        labels,
        scores: scores.iter().map(score).collect(),
    }
}

fn share(hits: Hits) -> Share {
    let (low, high) = hits.wilson_interval();
    Share {
        value: hits.share(),
        low,
        high,
        n_hits: hits.n_hits,
        n: hits.n,
    }
}

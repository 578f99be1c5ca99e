//! Scores as a report keeps them.

use qloupe_exec::Mode;

use super::{Contender, Hits, Question, Score, evaluate};
use crate::Error;
use crate::calibrate::Progress;
use crate::quantize::Quantized;
use crate::report::{Accuracy, PrecisionScore, Share};
use crate::runner::Runner;
use crate::samples::Labelled;
use crate::session::Session;

/// How often a network is right in float and under a plan; `labels` says where the right answers come from.
///
/// # Errors
/// As [`evaluate`].
pub fn measure_accuracy(
    (session, quantized, mode): (&Session, &Quantized, Mode),
    (labelled, question): (&Labelled, &Question),
    labels: String,
    progress: Progress<'_>,
) -> Result<Accuracy, Error> {
    let word = quantized.prepared.target.float_word().unwrap_or("int8");
    let contenders = [
        Contender {
            precision: "float",
            runner: Runner::Float,
        },
        Contender {
            precision: word,
            runner: quantized.runner(session, mode)?,
        },
    ];
    let scores = evaluate(&session.network, labelled, question, &contenders, progress)?;
    Ok(accuracy(question, labels, &scores))
}

/// The scores of a question for a report.
fn accuracy(question: &Question, labels: String, scores: &[Score]) -> Accuracy {
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

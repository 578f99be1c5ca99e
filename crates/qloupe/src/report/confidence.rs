//! Sentences on how sure the figures are: intervals, the worst samples, answers that changed, task accuracy.

use super::{Accuracy, Flips, Metrics, Output, Report, Share, WorstSample, figure, words};

/// What there is to say of a network output and of its slices beside its figures.
pub(super) fn output_words(output: &Output) -> Vec<String> {
    let mut lines = Vec::new();
    let mut parts = Vec::new();
    parts.extend(interval_words(&output.views.entire, "cosine"));
    parts.extend(worst_words(&output.worst_samples).map(|words| format!("worst samples: {words}")));
    parts.extend(output.flips.as_ref().map(flip_words));
    if !parts.is_empty() {
        lines.push(format!("{}: {}", output.name, parts.join("; ")));
    }
    for slice in &output.slices {
        if let Some(flips) = &slice.flips {
            let name = words::slice_words(slice, output.shape.len());
            lines.push(format!("{} {name}: {}", output.name, flip_words(flips)));
        }
    }
    lines
}

/// `mean cosine 0.99993, 95% interval 0.99990 to 0.99996`; `None` without an interval.
pub(super) fn interval_words(metrics: &Metrics, id: &str) -> Option<String> {
    let value = metrics.get(id)?;
    let (low, high) = (value.mean_low?, value.mean_high?);
    // No cosine is above 1, whatever the distribution of its samples says.
    let high = if id == "cosine" { high.min(1.0) } else { high };
    let words = |x| figure::of_metric(id, x);
    Some(format!(
        "mean {id} {}, 95% interval {} to {}",
        words(value.mean),
        words(low),
        words(high)
    ))
}

/// `4 (cat.jpg) at 21.3 dB, 7 at 25.0 dB`.
pub(super) fn worst_words(samples: &[WorstSample]) -> Option<String> {
    let words = |sample: &WorstSample| {
        let file = sample
            .file
            .as_ref()
            .map_or_else(String::new, |file| format!(" ({file})"));
        format!(
            "{}{file} at {} dB",
            sample.index,
            figure::decibels(sample.sqnr_db)
        )
    };
    let list: Vec<String> = samples.iter().map(words).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

/// `3 of 200 answers changed, 0 left the five best, score of the golden answer -0.0123`.
pub(super) fn flip_words(flips: &Flips) -> String {
    let top5 = flips
        .top5
        .map_or_else(String::new, |n| format!(", {n} left the five best"));
    format!(
        "{} of {} answers changed{top5}, score of the golden answer {:+.4}",
        flips.top1, flips.n, flips.mean_score_shift
    )
}

/// The task accuracy, a line for each precision.
pub(super) fn accuracy_words(report: &Report) -> Vec<String> {
    let Some(Accuracy {
        task,
        output,
        labels,
        scores,
    }) = &report.accuracy
    else {
        return Vec::new();
    };
    let mut lines = vec![format!("task {task} on output {output}, labels from {labels}")];
    for score in scores {
        let share = |(id, share): (&String, &Share)| {
            format!(
                "{id} {:.4} (95% interval {:.3} to {:.3})",
                share.value, share.low, share.high
            )
        };
        let mut parts: Vec<String> = score.metrics.iter().map(share).collect();
        let flips = score
            .agreement
            .map(|a| format!("{} of {} answers are not those of float", a.n - a.n_hits, a.n));
        parts.extend(flips);
        lines.push(format!("{}: {}", score.precision, parts.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::on_device;

    #[test]
    fn an_output_says_how_sure_it_is() {
        let lines = output_words(&on_device().outputs[0]);
        let expected = [
            "output0: mean cosine 0.99978, 95% interval 0.99948 to 1.00000; worst samples: 0 (photos/a.jpg) at 33.1 dB, 1 at 34.0 dB",
            "output0 [:, 4:22, :] scores: 7 of 40 answers changed, 2 left the five best, score of the golden answer -0.1200",
        ];
        assert_eq!(lines, expected);
        assert!(output_words(&Output::default()).is_empty());
    }

    #[test]
    fn accuracy_is_a_line_for_each_precision() {
        assert_eq!(
            accuracy_words(&on_device()),
            [
                "task top1 on output output0, labels from labels.csv",
                "float: top1 0.9000 (95% interval 0.699 to 0.972)",
                "int8: top1 0.8500 (95% interval 0.640 to 0.948), 1 of 20 answers are not those of float",
            ]
        );
        assert!(accuracy_words(&Report::default()).is_empty());
    }
}

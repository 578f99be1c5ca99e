//! The sentences, rows and marks that the formats for people share.

use super::{
    Additivity, Cost, Layer, Metrics, Report, Slice, Thresholds, Tried, View, figure, view::figure_of,
};

/// How a cosine is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Good,
    Slight,
    Wrong,
}

impl Mark {
    /// The mark of a view's metrics; NaN is wrong.
    pub(super) fn of(metrics: &Metrics, thresholds: &Thresholds) -> Self {
        match figure_of(metrics, "cosine") {
            None => Self::Good,
            Some(cosine) if cosine >= thresholds.slight => Self::Good,
            Some(cosine) if cosine >= thresholds.wrong => Self::Slight,
            Some(_) => Self::Wrong,
        }
    }

    /// The sign behind a cosine, so that nobody depends on colours.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Good => "",
            Self::Slight => "~",
            Self::Wrong => "!",
        }
    }
}

/// What the signs mean.
pub(super) fn legend(thresholds: &Thresholds) -> String {
    let Thresholds { slight, wrong } = thresholds;
    format!("~ cosine below {slight}: slightly inconsistent; ! below {wrong}: this layer is wrong")
}

/// The metrics that tables show of a view.
pub(super) fn columns(view: View) -> &'static [&'static str] {
    match view {
        View::Entire => &["cosine", "sqnr_db", "euclidean_rel"],
        View::Alone | View::Rescued => &["sqnr_db"],
        _ => &["cosine", "sqnr_db"],
    }
}

/// The metrics that tables show of a network output.
pub(super) const OUTPUT_COLUMNS: [&str; 5] =
    ["cosine", "sqnr_db", "sqnr_db_worst", "max_abs", "zero_fraction"];

/// What was analyzed.
pub(crate) fn headline(report: &Report) -> String {
    let plan = &report.plan;
    let mut line = format!("{} on {}: {}", report.model.file, report.target, report.mode);
    for (name, value) in [("algorithm", &plan.algorithm), ("method", &plan.method)] {
        if !value.is_empty() {
            line.push_str(&format!(", {name} {value}"));
        }
    }
    line
}

/// The numbers behind the headline.
pub(super) fn subtitle(report: &Report) -> String {
    let Report {
        model, plan, samples, ..
    } = report;
    let mut parts = vec![
        format!("{}, opset {}", figure::count(model.n_nodes, "node"), model.opset),
        format!("{:.2} M parameters", model.n_params as f64 / 1e6),
        format!("{} from {}", figure::count(samples.n, "sample"), samples.source),
    ];
    if samples.n_calibration > 0 {
        parts.push(format!("calibrated on {}", samples.n_calibration));
    }
    let counts = [
        (plan.n_quantized, "quantized"),
        (plan.n_fp16, "float16"),
        (plan.n_float, "float32"),
    ];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !counts.is_empty() {
        parts.push(format!("values: {}", counts.join(", ")));
    }
    parts.join("; ")
}

/// One sentence on a dead output or slice.
pub(super) fn dead_sentence(part: &str) -> String {
    format!("{part}: every value is 0, the golden run has other values")
}

/// Every dead output and slice: all zero, although the golden run has values there.
pub(super) fn dead_parts(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    for output in &report.outputs {
        if output.dead {
            parts.push(format!("output \"{}\"", output.name));
            continue;
        }
        let slices = output.slices.iter().filter(|slice| slice.dead);
        parts.extend(slices.map(|slice| {
            format!(
                "output \"{}\" {}",
                output.name,
                slice_words(slice, output.shape.len())
            )
        }));
    }
    parts
}

/// `[:, 4:22, :] scores`.
pub(crate) fn slice_words(slice: &Slice, rank: usize) -> String {
    let dims: Vec<String> = (0..rank.max(slice.axis + 1))
        .map(|axis| {
            if axis == slice.axis {
                format!("{}:{}", slice.start, slice.end)
            } else {
                ":".to_owned()
            }
        })
        .collect();
    let label = slice
        .label
        .as_ref()
        .map_or_else(String::new, |label| format!(" {label}"));
    format!("[{}]{label}", dims.join(", "))
}

/// The node of a layer as a summary names it.
pub(super) fn node_words(layer: &Layer) -> String {
    let others = layer.unit.len().saturating_sub(1);
    match (layer.node.as_str(), others) {
        ("", _) => format!("input {}", layer.name),
        (node, 0) => node.to_owned(),
        (node, _) => format!("{node} (+{others} fused)"),
    }
}

/// The closing table without its head: a title and a figure for each precision.
pub(super) fn cost_rows(costs: &[Cost]) -> Vec<(String, Vec<String>)> {
    let figures = |of: &dyn Fn(&Cost) -> Option<String>| -> Vec<String> {
        costs
            .iter()
            .map(|cost| of(cost).unwrap_or_else(|| "n/a".to_owned()))
            .collect()
    };
    let device = costs.iter().find_map(|cost| cost.device.as_deref());
    let latency = device.map_or_else(|| "latency".to_owned(), |device| format!("latency on {device}"));
    vec![
        (
            "file".to_owned(),
            figures(&|cost| cost.file_size_bytes.map(figure::bytes)),
        ),
        (
            "weights".to_owned(),
            figures(&|cost| cost.weight_bytes.map(figure::bytes)),
        ),
        (
            "peak activations".to_owned(),
            figures(&|cost| cost.peak_activation_bytes.map(figure::bytes)),
        ),
        (
            latency,
            figures(&|cost| cost.latency_ms.map(|ms| format!("{ms:.1} ms"))),
        ),
    ]
}

/// Why figures of the closing table are absent.
pub(super) fn cost_reasons(costs: &[Cost]) -> Vec<String> {
    let reason = |cost: &Cost| {
        cost.reason
            .as_ref()
            .map(|reason| format!("{}: {reason}", cost.precision))
    };
    costs.iter().filter_map(reason).collect()
}

/// How many values have no row, and why; `None` if every value has one.
pub(super) fn skipped_words(report: &Report) -> Option<String> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for skipped in &report.skipped {
        match reasons.iter_mut().find(|(reason, _)| *reason == skipped.reason) {
            Some((_, n)) => *n += 1,
            None => reasons.push((&skipped.reason, 1)),
        }
    }
    let parts: Vec<_> = reasons
        .iter()
        .map(|(reason, n)| format!("{reason} ({n})"))
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{} without a row: {}",
            figure::count(report.skipped.len(), "value"),
            parts.join(", ")
        )
    })
}

/// `3 of 40`: the answers that a unit changes alone, where most do; `None` where no output looks like scores of classes.
pub(super) fn changed_answers(layer: &Layer) -> Option<String> {
    let most = layer.flips.values().max_by_key(|flips| flips.top1)?;
    Some(format!("{} of {}", most.top1, most.n))
}

/// Where the time went; `None` if it was not taken.
pub(super) fn timing_words(report: &Report) -> Option<String> {
    let timing = &report.timing;
    let phases: Vec<_> = timing
        .phases
        .iter()
        .map(|p| format!("{} {:.1}", p.name, p.seconds))
        .collect();
    let parts = if phases.is_empty() {
        String::new()
    } else {
        format!(": {}", phases.join(", "))
    };
    (timing.total_seconds > 0.0).then(|| format!("{:.1} s{parts}", timing.total_seconds))
}

/// Whether the errors of units add up, and which do not.
pub(super) fn additivity_words(additivity: &Additivity) -> String {
    let mut words = format!(
        "measured on {} samples; the sum of all units is {:.0}% of what they do together",
        additivity.n_samples,
        100.0 * additivity.explained
    );
    if let Some(correlation) = additivity.rank_correlation {
        words += &format!("; estimates and measurements have a rank correlation of {correlation:.2}");
    }
    if let Some(pair) = additivity.pairs.first() {
        let verb = if pair.excess > 0.0 { "more" } else { "less" };
        words += &format!(
            "; \"{}\" and \"{}\" make {:.0}% {verb} together than each by itself",
            pair.first,
            pair.second,
            100.0 * pair.excess.abs()
        );
    }
    words
}

/// What a fix brought.
pub(super) fn tried_words(tried: &Tried) -> String {
    format!(
        "tried, number {}: {:.1} to {:.1} dB at the outputs ({:+.1}), the worst {:.1} to {:.1}; {:.1}% of the multiply-accumulates leave the integers",
        tried.number,
        tried.before_db,
        tried.after_db,
        tried.gain_db,
        tried.worst_before_db,
        tried.worst_after_db,
        100.0 * tried.cost
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn thresholds_are_limits_that_still_pass() {
        let mut metrics = sample().layers[0].views.entire.clone();
        for (cosine, mark) in [
            (0.99, Mark::Good),
            (0.989, Mark::Slight),
            (0.98, Mark::Slight),
            (0.979, Mark::Wrong),
            (f64::NAN, Mark::Wrong),
        ] {
            metrics.get_mut("cosine").unwrap().value = cosine;
            assert_eq!(Mark::of(&metrics, &Thresholds::default()), mark, "{cosine}");
        }
    }

    #[test]
    fn a_dead_output_is_named_once() {
        let mut report = sample();
        assert_eq!(dead_parts(&report), ["output \"output0\" [:, 4:22, :] scores"]);
        report.outputs[0].dead = true;
        assert_eq!(dead_parts(&report), ["output \"output0\""]);
    }
}

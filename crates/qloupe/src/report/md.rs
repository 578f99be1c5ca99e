//! GitHub Markdown, for pull requests and build logs.

use super::ranking::{Verdict, worst_layers};
use super::view::figure_of;
use super::words::{self, Mark};
use super::{GateResult, Metrics, Options, Report, ReportFormat, View, confidence, figure, grid};
use crate::metrics;

/// Units in each list of the worst.
const N_WORST: usize = 5;

/// The report as GitHub Markdown.
pub(super) struct Md;

impl ReportFormat for Md {
    fn id(&self) -> &'static str {
        "md"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("md")
    }
    fn write(&self, report: &Report, options: &Options) -> String {
        let sections = [
            head(report),
            gates(report),
            outputs(report, options),
            accuracy(report),
            findings(report),
            worst(report, options),
            layers(report, options),
            costs(report),
            notes(report),
        ];
        let sections: Vec<String> = sections.into_iter().filter(|text| !text.is_empty()).collect();
        sections.join("\n\n") + "\n"
    }
}

fn head(report: &Report) -> String {
    let mut text = format!(
        "# {}\n\n{}",
        escape(&words::headline(report)),
        escape(&words::subtitle(report))
    );
    for part in words::dead_parts(report) {
        text.push_str(&format!("\n\n**DEAD** {}", escape(&words::dead_sentence(&part))));
    }
    text
}

/// One line for each limit, so that a pull request shows at its top why it fails.
fn gates(report: &Report) -> String {
    let line = |gate: &GateResult| {
        let outcome = if gate.passed { "PASSED" } else { "FAILED" };
        format!("- **{outcome}** {}: {}", code(&gate.gate), escape(&gate.words))
    };
    report.gates.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn layers(report: &Report, options: &Options) -> String {
    let views = View::of_report(report);
    let columns: Vec<_> = views
        .iter()
        .flat_map(|view| words::columns(*view).iter().map(move |id| (*view, *id)))
        .collect();
    let titles = columns
        .iter()
        .map(|(view, id)| format!("{} {}", view.id(), title(id)));
    let head = ["layer", "op", "dtype"]
        .map(str::to_owned)
        .into_iter()
        .chain(titles)
        .collect();
    let rows = report.layers.iter().map(|layer| {
        let mut row = vec![code(&layer.name), escape(&layer.op_type), escape(&layer.dtype)];
        let measured = views.iter().any(|view| view.of_layer(layer).is_some());
        if !measured {
            row.push(escape(layer.reason.as_deref().unwrap_or("not measured")));
            row.resize(3 + columns.len(), String::new());
            return row;
        }
        row.extend(
            columns
                .iter()
                .map(|(view, id)| cell(view.of_layer(layer), id, options)),
        );
        row
    });
    let meanings: Vec<_> = views
        .iter()
        .map(|view| format!("{}: {}", view.id(), view.words()))
        .collect();
    let table = section(
        "Layers",
        3,
        head,
        rows.collect(),
        &[words::legend(&options.thresholds), meanings.join("; ")],
    );
    if table.is_empty() {
        return table;
    }
    // Folded: a pull request shows the summary, not hundreds of rows.
    let n = figure::count(report.layers.len(), "layer");
    format!("<details>\n<summary>{n}</summary>\n\n{table}\n\n</details>")
}

fn worst(report: &Report, options: &Options) -> String {
    let mut rows = Vec::new();
    for view in [View::Entire, View::Local] {
        for (layer, _) in worst_layers(report, view, N_WORST) {
            rows.push(vec![
                view.id().to_owned(),
                code(&words::node_words(layer)),
                Verdict::on(layer, &options.thresholds)
                    .map_or("", Verdict::words)
                    .to_owned(),
                cell(View::Entire.of_layer(layer), "sqnr_db", options),
                cell(View::Local.of_layer(layer), "sqnr_db", options),
            ]);
        }
    }
    let head = ["worst by", "node", "verdict", "entire, dB", "local, dB"]
        .map(str::to_owned)
        .to_vec();
    section("Worst units", 3, head, rows, &[])
}

fn outputs(report: &Report, options: &Options) -> String {
    let titles = words::OUTPUT_COLUMNS.iter().map(|id| title(id).to_owned());
    let head = ["output".to_owned(), "part".to_owned()]
        .into_iter()
        .chain(titles)
        .collect();
    let figures = |metrics: Option<&Metrics>| {
        words::OUTPUT_COLUMNS
            .map(|id| cell(metrics, id, options))
            .to_vec()
    };
    let mut rows = Vec::new();
    for output in &report.outputs {
        let mut row = vec![code(&output.name), escape(&figure::shape(&output.shape))];
        match &output.reason {
            Some(reason) => row.push(escape(reason)),
            None => row.extend(figures(View::Entire.of_output(output))),
        }
        row.resize(2 + words::OUTPUT_COLUMNS.len(), String::new());
        rows.push(row);
        for slice in &output.slices {
            let mut row = vec![
                code(&output.name),
                escape(&words::slice_words(slice, output.shape.len())),
            ];
            row.extend(figures(View::Entire.of(&slice.views, None)));
            rows.push(row);
        }
    }
    let below: Vec<String> = report.outputs.iter().flat_map(confidence::output_words).collect();
    section("Network outputs", 2, head, rows, &below)
}

fn accuracy(report: &Report) -> String {
    let lines = confidence::accuracy_words(report);
    let Some((first, scores)) = lines.split_first() else {
        return String::new();
    };
    let scores: String = scores
        .iter()
        .map(|line| format!("\n- {}", escape(line)))
        .collect();
    format!("## Accuracy\n\n{}\n{scores}", escape(first))
}

fn findings(report: &Report) -> String {
    let head = ["severity", "finding", "layer", "cause", "evidence", "fix"]
        .map(str::to_owned)
        .to_vec();
    let rows = report.findings.iter().map(|finding| {
        vec![
            finding.severity.name().to_owned(),
            escape(&finding.id),
            finding
                .layer
                .as_ref()
                .map_or_else(|| "whole model".to_owned(), |layer| code(layer)),
            escape(&finding.cause),
            escape(&finding.evidence),
            escape(&finding.fix),
        ]
    });
    section("Findings", 6, head, rows.collect(), &[])
}

fn costs(report: &Report) -> String {
    if report.costs.is_empty() {
        return String::new();
    }
    let precisions = report.costs.iter().map(|cost| escape(&cost.precision));
    let head = ["cost".to_owned()].into_iter().chain(precisions).collect();
    let rows = words::cost_rows(&report.costs)
        .into_iter()
        .map(|(title, figures)| [escape(&title)].into_iter().chain(figures).collect());
    let reasons: Vec<_> = words::cost_reasons(&report.costs)
        .iter()
        .map(|r| format!("n/a {r}"))
        .collect();
    section("Cost", 1, head, rows.collect(), &reasons)
}

fn notes(report: &Report) -> String {
    let notes = report.notes.iter().cloned();
    let lines = notes
        .chain(words::skipped_words(report))
        .chain(words::timing_words(report));
    lines
        .map(|line| format!("- {}", escape(&line)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A heading, a table whose first `n_left` columns are text, and lines below it; nothing without rows.
fn section(
    title: &str,
    n_left: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    below: &[String],
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rule = (0..head.len())
        .map(|idx| if idx < n_left { "---" } else { "---:" }.to_owned())
        .collect();
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![format!("## {title}"), String::new(), line(head), line(rule)];
    lines.extend(rows.into_iter().map(line));
    for text in below {
        lines.extend([String::new(), escape(text)]);
    }
    lines.join("\n")
}

fn title(id: &str) -> &str {
    metrics::metric(id).map_or(id, |metric| metric.title())
}

/// A figure, bold where the cosine of its view is marked.
fn cell(metrics: Option<&Metrics>, id: &str, options: &Options) -> String {
    let Some((metrics, x)) = metrics.and_then(|m| Some((m, figure_of(m, id)?))) else {
        return "n/a".to_owned();
    };
    let text = figure::of_metric(id, x);
    let sign = match (id, Mark::of(metrics, &options.thresholds)) {
        ("cosine", mark) => mark.sign(),
        _ => "",
    };
    if sign.is_empty() {
        text
    } else {
        format!("**{text}**{}", escape(sign))
    }
}

/// Text that Markdown takes as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in grid::printable(text).chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '_' | '<' | '~' | '[' | ']' | '#') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A name as code.
fn code(name: &str) -> String {
    // Within a table GitHub reads an escaped bar as a bar, even in code; a backtick cannot be escaped there.
    format!(
        "`{}`",
        grid::printable(name).replace('`', "'").replace('|', "\\|")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn the_sample_is_written() {
        insta::assert_snapshot!(Md.write(&sample(), &Options::default()));
    }

    #[test]
    fn gates_stand_above_the_outputs() {
        let mut report = sample();
        let outcome = report.gate(&"sqnr_db=60".parse().unwrap()).unwrap();
        report.gates.push(outcome.result());
        let text = Md.write(&report, &Options::default());
        let expected = "\n\n- **FAILED** `sqnr_db=60`: accuracy gate failed: the worst entire sqnr\\_db is 0.000 dB at output \
                        \"output0\", 4..22 of axis 1, expected at least 60\n\n## Network outputs\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn names_break_no_table() {
        let mut report = sample();
        report.layers[0].name = "a|b`c\nd".to_owned();
        let text = Md.write(&report, &Options::default());
        assert!(text.contains("| `a\\|b'c\u{fffd}d` |"), "{text}");
    }
}

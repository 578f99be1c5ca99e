//! Small pieces of the page: figures with their marks, badges, tables.

use super::super::view::figure_of;
use super::super::words::Mark;
use super::super::{Metrics, Severity, Thresholds, figure};
use super::markup;
use crate::metrics;

/// Decibels at which the bar behind a figure is full: the error is a thousandth.
const FULL_DB: f64 = 60.0;

/// The class of a mark in the style sheet.
pub(super) fn class_of(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Slight => "slight",
        Mark::Wrong => "wrong",
    }
}

/// The class of a severity in the style sheet.
pub(super) fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "wrong",
        Severity::Warning => "slight",
        Severity::Info => "plain",
    }
}

/// The head of a metric's column.
pub(super) fn title(id: &str) -> String {
    let metric = metrics::metric(id);
    markup(metric.map_or(id, |metric| metric.title()))
}

/// A figure of a view in a cell: marked by the cosine, with a bar behind decibels.
pub(super) fn figure_cell(found: Option<&Metrics>, id: &str, thresholds: &Thresholds) -> String {
    let Some((found, x)) = found.and_then(|m| Some((m, figure_of(m, id)?))) else {
        return "<td class=\"n absent\">n/a</td>".to_owned();
    };
    let mark = Mark::of(found, thresholds);
    let sign = if id == "cosine" { mark.sign() } else { "" };
    let text = format!("{}{sign}", figure::of_metric(id, x));
    let bar = if id == "sqnr_db" {
        format!(" style=\"--part:{:.0}%\"", part_of(x) * 100.0)
    } else {
        String::new()
    };
    format!(
        "<td class=\"n {}\" data-v=\"{x}\"{bar}>{text}</td>",
        class_of(mark)
    )
}

/// How full the bar of a figure in dB is, 0 to 1.
fn part_of(sqnr_db: f64) -> f64 {
    if sqnr_db.is_nan() {
        0.0
    } else {
        (sqnr_db / FULL_DB).clamp(0.0, 1.0)
    }
}

/// A word on a coloured ground.
pub(super) fn badge(text: &str, class: &str) -> String {
    format!("<span class=\"badge {class}\">{}</span>", markup(text))
}

/// A table in a box that scrolls by itself. The head and the rows are cells already.
pub(super) fn table(class: &str, head: &str, rows: &[String]) -> String {
    let rows: String = rows.iter().map(|row| format!("<tr>{row}</tr>\n")).collect();
    format!(
        "<div class=\"scroll\"><table class=\"{class}\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    )
}

/// Heads of columns, those after the first `n_left` of numbers.
pub(super) fn heads<T: AsRef<str>>(titles: &[T], n_left: usize) -> String {
    let head = |(idx, title): (usize, &T)| {
        let class = if idx < n_left { "" } else { " class=\"n\"" };
        format!("<th{class}>{}</th>", title.as_ref())
    };
    titles.iter().enumerate().map(head).collect()
}

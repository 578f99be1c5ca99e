//! The table for a terminal.

mod effects;

use super::grid::{Align, Cell, Grid, Style, shorten, width, wrap};
use super::ranking::{Verdict, worst_layers};
use super::view::figure_of;
use super::words::{self, Mark};
use super::{Layer, Metrics, Options, Report, ReportFormat, Severity, View, confidence, figure};
use crate::metrics;

/// A layer name is not shortened below this; columns go first.
const NAME_WIDTH: usize = 24;

/// Operators of custom domains can be long.
const OP_WIDTH: usize = 14;

/// Units in each list of the worst.
const N_WORST: usize = 5;

/// The report as a table for a terminal.
pub(super) struct Table;

impl ReportFormat for Table {
    fn id(&self) -> &'static str {
        "table"
    }
    fn extension(&self) -> Option<&'static str> {
        None
    }
    fn write(&self, report: &Report, options: &Options) -> String {
        let printer = Printer { report, options };
        let sections = [
            printer.dead(),
            printer.head(),
            printer.layers(),
            printer.worst(),
            printer.effects(),
            printer.outputs(),
            printer.accuracy(),
            printer.findings(),
            printer.costs(),
            printer.notes(),
        ];
        let sections: Vec<String> = sections
            .into_iter()
            .filter(|lines| !lines.is_empty())
            .map(|lines| lines.join("\n"))
            .collect();
        sections.join("\n\n") + "\n"
    }
}

struct Printer<'a> {
    report: &'a Report,
    options: &'a Options,
}

/// The columns of the layer table.
struct Columns {
    dtype: bool,
    views: Vec<(View, Vec<&'static str>)>,
}

impl Columns {
    fn n_figures(&self) -> usize {
        self.views.iter().map(|(_, metrics)| metrics.len()).sum()
    }

    /// Gives up the least important columns that are left; false if there are none.
    fn narrow(&mut self) -> bool {
        let relative = |metrics: &[&str]| metrics.iter().position(|m| *m == "euclidean_rel");
        if let Some((metrics, idx)) = self
            .views
            .iter_mut()
            .find_map(|(_, m)| relative(m).map(|idx| (m, idx)))
        {
            metrics.remove(idx);
            return true;
        }
        for unimportant in [View::Tensor, View::RuntimeSimulator, View::Alone] {
            let idx = self.views.iter().position(|(view, _)| *view == unimportant);
            if let Some(idx) = idx.filter(|_| self.views.len() > 1) {
                self.views.remove(idx);
                return true;
            }
        }
        std::mem::replace(&mut self.dtype, false)
    }
}

impl Printer<'_> {
    fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.options.colour)
    }

    fn wrapped(&self, text: &str, indent: usize, style: Style) -> Vec<String> {
        let lines = wrap(text, self.options.width.saturating_sub(indent));
        lines
            .iter()
            .map(|line| format!("{:indent$}{}", "", self.paint(style, line)))
            .collect()
    }

    fn dead(&self) -> Vec<String> {
        let parts = words::dead_parts(self.report);
        parts
            .iter()
            .flat_map(|part| self.wrapped(&format!("DEAD {}", words::dead_sentence(part)), 0, Style::Alarm))
            .collect()
    }

    fn head(&self) -> Vec<String> {
        let mut lines = self.wrapped(&words::headline(self.report), 0, Style::Bold);
        lines.extend(self.wrapped(&words::subtitle(self.report), 0, Style::Dim));
        lines
    }

    fn layers(&self) -> Vec<String> {
        if self.report.layers.is_empty() {
            return Vec::new();
        }
        let views = View::of_report(self.report);
        let mut columns = Columns {
            dtype: true,
            views: views
                .iter()
                .map(|view| (*view, words::columns(*view).to_vec()))
                .collect(),
        };
        let longest = self
            .report
            .layers
            .iter()
            .map(|layer| width(&layer.name))
            .max()
            .unwrap_or_default();
        let room = loop {
            let others = self.layer_grid(&columns, 0).lines(0, false);
            let others = others.iter().map(|line| width(line)).max().unwrap_or_default();
            let room = self.options.width.saturating_sub(others);
            if room >= longest.min(NAME_WIDTH) || !columns.narrow() {
                break room;
            }
        };
        let mut lines = self
            .layer_grid(&columns, room.clamp(8, longest.max(8)))
            .lines(0, self.options.colour);
        lines.push(String::new());
        lines.extend(self.wrapped(&words::legend(&self.options.thresholds), 0, Style::Dim));
        let meaning = |(view, _): &(View, Vec<_>)| format!("{}: {}", view.id(), view.words());
        let meanings: Vec<_> = columns.views.iter().map(meaning).collect();
        lines.extend(self.wrapped(&meanings.join("; "), 0, Style::Dim));
        let hidden: Vec<_> = views
            .iter()
            .filter(|view| columns.views.iter().all(|(shown, _)| shown != *view))
            .map(|view| view.id())
            .collect();
        if !hidden.is_empty() {
            let hidden = format!("not shown at this width: {}", hidden.join(", "));
            lines.extend(self.wrapped(&hidden, 0, Style::Dim));
        }
        lines
    }

    /// The rows of the layer table, with names of at most `room` columns.
    fn layer_grid(&self, columns: &Columns, room: usize) -> Grid {
        let dtype = |text: &str| columns.dtype.then(|| Cell::plain(text));
        let mut align = vec![Align::Left; 2 + usize::from(columns.dtype)];
        align.resize(align.len() + columns.n_figures(), Align::Right);
        let mut grid = Grid::new(align);
        let bold = |text: &str| Cell::new(text, Style::Bold);
        let longest =
            |of: &dyn Fn(&Layer) -> usize| self.report.layers.iter().map(of).max().unwrap_or_default();
        let op_width = longest(&|layer| width(&layer.op_type)).min(OP_WIDTH);
        let dtype_width = if columns.dtype {
            2 + longest(&|layer| width(&layer.dtype)).max(5)
        } else {
            0
        };
        let reason_room = self
            .options
            .width
            .saturating_sub(room + 2 + op_width + dtype_width + 2)
            .max(8);
        let mut heads = vec![Cell::plain(""), Cell::plain("")];
        let mut titles = vec![bold(&shorten("layer", room)), bold("op")];
        if columns.dtype {
            heads.push(Cell::plain(""));
            titles.push(bold("dtype"));
        }
        for (view, metrics) in &columns.views {
            heads.push(bold(view.id()).over(metrics.len()).right());
            titles.extend(metrics.iter().map(|id| bold(&column_title(id))));
        }
        grid.push(heads);
        grid.push(titles);
        for layer in &self.report.layers {
            let mut row = vec![
                Cell::plain(shorten(&layer.name, room)),
                Cell::plain(shorten(&layer.op_type, OP_WIDTH)),
            ];
            row.extend(dtype(&layer.dtype));
            if let Some(reason) = no_numbers(layer) {
                // The width of the figures is measured with names of no width, and then without reasons.
                let reason = if room == 0 {
                    String::new()
                } else {
                    shorten(reason, reason_room)
                };
                row.push(Cell::new(reason, Style::Dim).over(columns.n_figures().max(1)));
            } else {
                for (view, ids) in &columns.views {
                    row.extend(self.figures(view.of_layer(layer), ids));
                }
            }
            grid.push(row);
        }
        grid
    }

    /// A view's figures, coloured by its cosine.
    fn figures(&self, metrics: Option<&Metrics>, ids: &[&str]) -> Vec<Cell> {
        let Some(metrics) = metrics else {
            let absent = |id: &&str| Cell::new(if *id == "cosine" { "n/a " } else { "n/a" }, Style::Dim);
            return ids.iter().map(absent).collect();
        };
        let mark = Mark::of(metrics, &self.options.thresholds);
        let style = match mark {
            Mark::Good => Style::Plain,
            Mark::Slight => Style::Yellow,
            Mark::Wrong => Style::Red,
        };
        let cell = |id: &&str| {
            let text = figure_of(metrics, id).map_or_else(|| "n/a".to_owned(), |x| figure::of_metric(id, x));
            // The sign has a column of its own, so that the digits stay aligned.
            let sign = if *id == "cosine" {
                format!("{:<1}", mark.sign())
            } else {
                String::new()
            };
            Cell::new(text + &sign, style)
        };
        ids.iter().map(cell).collect()
    }

    fn worst(&self) -> Vec<String> {
        let views: Vec<_> = [View::Entire, View::Local]
            .into_iter()
            .filter(|view| !worst_layers(self.report, *view, 1).is_empty())
            .collect();
        if views.is_empty() {
            return Vec::new();
        }
        let mut grid = Grid::new(vec![Align::Left, Align::Right, Align::Right, Align::Left]);
        let decibels = |layer: &Layer, view: View| {
            let sqnr_db = view.of_layer(layer).and_then(|m| figure_of(m, "sqnr_db"));
            Cell::plain(sqnr_db.map_or_else(|| "n/a".to_owned(), figure::decibels))
        };
        let room = self.options.width.saturating_sub(2 + 2 * 8 + 24);
        for (idx, view) in views.iter().enumerate() {
            let bold = |text: &str| Cell::new(text, Style::Bold);
            let mut head = vec![bold(&format!("worst by {}, sqnr in dB", view.id()))];
            if idx == 0 {
                head.extend([bold("entire"), bold("local")]);
            }
            grid.push(head);
            for (layer, _) in worst_layers(self.report, *view, N_WORST) {
                let verdict = Verdict::on(layer, &self.options.thresholds);
                let style = if verdict == Some(Verdict::Culprit) {
                    Style::Red
                } else {
                    Style::Yellow
                };
                grid.push(vec![
                    Cell::plain(format!(
                        "  {}",
                        shorten(&words::node_words(layer), room.max(NAME_WIDTH))
                    )),
                    decibels(layer, View::Entire),
                    decibels(layer, View::Local),
                    Cell::new(verdict.map_or("", Verdict::words), style),
                ]);
            }
        }
        grid.lines(0, self.options.colour)
    }

    fn outputs(&self) -> Vec<String> {
        if self.report.outputs.is_empty() {
            return Vec::new();
        }
        let on_device = self.report.outputs.iter().any(|output| output.runtime.is_some());
        let device_columns: &[&str] = if on_device {
            words::columns(View::RuntimeEntire)
        } else {
            &[]
        };
        let mut align = vec![Align::Right; 1 + words::OUTPUT_COLUMNS.len() + device_columns.len()];
        align[0] = Align::Left;
        let n_figures = align.len() - 1;
        let mut grid = Grid::new(align);
        let mut head = vec![Cell::new("network outputs", Style::Bold)];
        let titles = words::OUTPUT_COLUMNS.iter().map(|id| column_title(id));
        let device_titles = device_columns
            .iter()
            .map(|id| format!("device {}", column_title(id).trim_end()));
        head.extend(
            titles
                .chain(device_titles)
                .map(|title| Cell::new(title, Style::Bold)),
        );
        grid.push(head);
        let room = self
            .options
            .width
            .saturating_sub(2 + 10 * n_figures)
            .max(NAME_WIDTH);
        for output in &self.report.outputs {
            let name = format!("{} {}", output.name, figure::shape(&output.shape));
            let mut row = vec![Cell::plain(format!("  {}", shorten(&name, room)))];
            if let Some(reason) = &output.reason {
                row.push(Cell::new(reason, Style::Dim).over(n_figures));
            } else {
                row.extend(self.figures(View::Entire.of_output(output), &words::OUTPUT_COLUMNS));
                row.extend(self.figures(View::RuntimeEntire.of_output(output), device_columns));
            }
            grid.push(row);
            for slice in &output.slices {
                let name = words::slice_words(slice, output.shape.len());
                let style = if slice.dead { Style::Red } else { Style::Plain };
                let mut row = vec![Cell::new(format!("    {}", shorten(&name, room)), style)];
                row.extend(self.figures(View::Entire.of(&slice.views, None), &words::OUTPUT_COLUMNS));
                grid.push(row);
            }
        }
        let mut lines = grid.lines(0, self.options.colour);
        for words in self.report.outputs.iter().flat_map(confidence::output_words) {
            lines.extend(self.wrapped(&words, 2, Style::Dim));
        }
        lines
    }

    fn accuracy(&self) -> Vec<String> {
        let lines = confidence::accuracy_words(self.report);
        let styled = lines.iter().enumerate().flat_map(|(idx, line)| match idx {
            0 => self.wrapped(line, 0, Style::Bold),
            _ => self.wrapped(line, 2, Style::Plain),
        });
        styled.collect()
    }

    fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in &self.report.findings {
            let style = match finding.severity {
                Severity::Error => Style::Red,
                Severity::Warning => Style::Yellow,
                Severity::Info => Style::Dim,
            };
            let place = finding
                .layer
                .as_ref()
                .map_or_else(String::new, |layer| format!(" at {layer}"));
            let title = format!("{}: {}{place}", finding.severity.name(), finding.id);
            lines.extend(self.wrapped(&title, 0, style));
            lines.extend(self.wrapped(&finding.cause, 2, Style::Plain));
            lines.extend(self.wrapped(&finding.evidence, 2, Style::Dim));
            lines.extend(self.wrapped(&format!("fix: {}", finding.fix), 2, Style::Plain));
            if let Some(tried) = &finding.tried {
                lines.extend(self.wrapped(&words::tried_words(tried), 2, Style::Bold));
            }
        }
        lines
    }

    fn costs(&self) -> Vec<String> {
        let costs = &self.report.costs;
        if costs.is_empty() {
            return Vec::new();
        }
        let mut align = vec![Align::Right; 1 + costs.len()];
        align[0] = Align::Left;
        let mut grid = Grid::new(align);
        let heads = ["cost"]
            .into_iter()
            .chain(costs.iter().map(|cost| cost.precision.as_str()));
        grid.push(heads.map(|head| Cell::new(head, Style::Bold)).collect());
        for (title, figures) in words::cost_rows(costs) {
            let title = Cell::plain(format!("  {title}"));
            grid.push(
                [title]
                    .into_iter()
                    .chain(figures.iter().map(Cell::plain))
                    .collect(),
            );
        }
        let mut lines = grid.lines(0, self.options.colour);
        for reason in words::cost_reasons(costs) {
            lines.extend(self.wrapped(&format!("n/a {reason}"), 2, Style::Dim));
        }
        lines
    }

    fn notes(&self) -> Vec<String> {
        let report = self.report;
        let mut lines = Vec::new();
        let small = words::skipped_words(report)
            .into_iter()
            .chain(words::timing_words(report));
        for words in small {
            lines.extend(self.wrapped(&words, 0, Style::Dim));
        }
        for note in &report.notes {
            lines.extend(self.wrapped(&format!("note: {note}"), 0, Style::Plain));
        }
        lines
    }
}

/// The head of a metric's column; that of the cosine leaves room for its sign.
fn column_title(id: &str) -> String {
    let title = metrics::metric(id).map_or(id, |metric| metric.title());
    if id == "cosine" {
        format!("{title} ")
    } else {
        title.to_owned()
    }
}

/// Why a layer has no numbers; `None` if it has some.
fn no_numbers(layer: &Layer) -> Option<&str> {
    let none = View::ALL.iter().all(|view| view.of_layer(layer).is_none());
    none.then(|| layer.reason.as_deref().unwrap_or("not measured"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{on_device, sample};

    fn written(report: &Report, width: usize, colour: bool) -> String {
        let options = Options {
            colour,
            width,
            ..Options::default()
        };
        Table.write(report, &options)
    }

    #[test]
    fn the_sample_is_written_at_two_widths() {
        insta::assert_snapshot!("table_80", written(&sample(), 80, false));
        insta::assert_snapshot!("table_120", written(&sample(), 120, false));
        insta::assert_snapshot!("table_160_on_device", written(&on_device(), 160, false));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [80, 100, 120] {
            for line in written(&sample(), width, false).lines() {
                assert!(super::width(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colours_are_all_that_differs() {
        let coloured = written(&sample(), 100, true);
        assert!(coloured.starts_with("\x1b[1;97;41mDEAD "), "{coloured}");
        let mut parts = coloured.split("\x1b[");
        let mut plain = parts.next().unwrap().to_owned();
        plain.extend(parts.map(|part| part.split_once('m').unwrap().1));
        assert_eq!(plain, written(&sample(), 100, false));
    }
}

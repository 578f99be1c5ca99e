//! Two reports side by side as aligned tables for a terminal.

use super::{FindingState, Move, ReportComparison, SettingsMove, Unmatched, ViewMove};
use crate::report::grid::{Align, Cell, Grid, Style, printable, shorten, wrap};
use crate::report::{Severity, View};

/// Rows of each table, unless all are wanted.
const N_SHOWN: usize = 20;

/// A name is not shortened below this; views go first.
const NAME_WIDTH: usize = 36;

/// Columns that a view takes: two figures, a change, and the blanks between them.
const VIEW_WIDTH: usize = 24;

/// How a comparison is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// ANSI colours.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// Every row, not only the largest movements.
    pub all: bool,
    /// Without the sentences that explain.
    pub quiet: bool,
}

impl ReportComparison {
    /// The tables, for a terminal.
    pub fn to_text(&self, options: TableOptions) -> String {
        let printer = Printer {
            comparison: self,
            options,
        };
        let sections = [
            printer.head(),
            printer.moves("network outputs, sqnr in dB", &self.outputs),
            printer.findings(),
            printer.moves("layers, sqnr in dB", &self.layers),
            printer.settings(),
            printer.unmatched(),
            printer.summary(),
        ];
        let sections = sections.into_iter().filter(|lines| !lines.is_empty());
        sections
            .map(|lines| lines.join("\n"))
            .collect::<Vec<_>>()
            .join("\n\n")
            + "\n"
    }
}

struct Printer<'a> {
    comparison: &'a ReportComparison,
    options: TableOptions,
}

impl Printer<'_> {
    fn head(&self) -> Vec<String> {
        let ReportComparison {
            a, b, differences, ..
        } = self.comparison;
        let mut grid = Grid::new(vec![Align::Left; 4]);
        for (letter, side) in [("A", a), ("B", b)] {
            grid.push(vec![
                Cell::new(letter, Style::Bold),
                Cell::plain(format!("{}: {}", side.file, side.headline)).over(3),
            ]);
        }
        let mut lines = grid.lines(0, self.options.colour);
        if differences.is_empty() {
            return lines;
        }
        let mut grid = Grid::new(vec![Align::Left; 3]);
        let head = ["not the same", "A", "B"].map(|text| Cell::new(text, Style::Bold));
        grid.push(head.to_vec());
        for difference in differences {
            grid.push(vec![
                Cell::new(format!("  {}", difference.what), Style::Yellow),
                Cell::plain(&difference.a),
                Cell::plain(&difference.b),
            ]);
        }
        lines.push(String::new());
        lines.extend(grid.lines(0, self.options.colour));
        lines
    }

    /// The views to show: those with numbers, as many as there is room for.
    fn views(&self, moves: &[Move]) -> Vec<View> {
        const BY_IMPORTANCE: [View; 8] = [
            View::Entire,
            View::Local,
            View::Rescued,
            View::Alone,
            View::RuntimeEntire,
            View::Tensor,
            View::RuntimeLocal,
            View::RuntimeSimulator,
        ];
        let room = self.options.width.saturating_sub(NAME_WIDTH + 2) / VIEW_WIDTH;
        let present = |view: &View| moves.iter().any(|moved| moved.change_db(*view).is_some());
        let mut shown: Vec<View> = BY_IMPORTANCE.into_iter().filter(present).collect();
        shown.truncate(room.max(1));
        View::ALL
            .into_iter()
            .filter(|view| shown.contains(view))
            .collect()
    }

    fn moves(&self, title: &str, moves: &[Move]) -> Vec<String> {
        let moved: Vec<&Move> = moves.iter().filter(|moved| moved.is_moved()).collect();
        let n_shown = if self.options.all {
            moved.len()
        } else {
            N_SHOWN.min(moved.len())
        };
        let rest = moves.len() - moved.len();
        if moves.is_empty() {
            return Vec::new();
        }
        if moved.is_empty() {
            return vec![format!("{title}: none of {} moved", moves.len())];
        }
        let views = self.views(moves);
        let mut align = vec![Align::Right; 2 + 3 * views.len()];
        (align[0], *align.last_mut().expect("invariant: not empty")) = (Align::Left, Align::Left);
        let mut grid = Grid::new(align);
        let bold = |text: &str| Cell::new(text, Style::Bold);
        let mut heads = vec![bold(title)];
        let mut columns = vec![Cell::plain("")];
        for view in &views {
            heads.push(bold(view.id()).over(3).right());
            columns.extend(["A", "B", "change"].map(bold));
        }
        grid.push(heads);
        grid.push(columns);
        let room = self
            .options
            .width
            .saturating_sub(4 + VIEW_WIDTH * views.len())
            .max(NAME_WIDTH);
        for moved in &moved[..n_shown] {
            let mut row = vec![Cell::plain(format!("  {}", shorten(&moved.name, room)))];
            for view in &views {
                let found = moved.views.iter().find(|v| v.view == *view);
                row.extend(found.map_or_else(no_figures, figures));
            }
            row.push(match moved.dead {
                (false, true) => Cell::new("DIED", Style::Alarm),
                (true, false) => Cell::new("revived", Style::Green),
                (true, true) => Cell::new("dead", Style::Red),
                (false, false) => Cell::plain(""),
            });
            grid.push(row);
        }
        let mut lines = grid.lines(0, self.options.colour);
        lines.extend(self.left_out(moved.len() - n_shown));
        let n_without = moves.iter().filter(|moved| moved.views.is_empty()).count();
        let rest = [
            (rest - n_without, "that did not move"),
            (n_without, "without figures in both"),
        ];
        let rest: Vec<String> = rest
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        if !rest.is_empty() {
            lines.push(format!("  {}", rest.join(", ")));
        }
        let has = |view: &View| moves.iter().any(|moved| moved.change_db(*view).is_some());
        let hidden = View::ALL
            .into_iter()
            .filter(|view| has(view) && !views.contains(view));
        let hidden: Vec<&str> = hidden.map(View::id).collect();
        if !hidden.is_empty() {
            lines.push(format!("  not shown at this width: {}", hidden.join(", ")));
        }
        lines
    }

    fn left_out(&self, n: usize) -> Option<String> {
        (n > 0).then(|| format!("  {n} more that moved less (--all shows them)"))
    }

    fn findings(&self) -> Vec<String> {
        let findings = &self.comparison.findings;
        if findings.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![Style::Bold.paint("findings", self.options.colour)];
        for moved in findings {
            let finding = &moved.finding;
            let (state, style) = match (moved.state, finding.severity) {
                (FindingState::Gone, _) => ("gone".to_owned(), Style::Green),
                (FindingState::New, Severity::Error) => ("new".to_owned(), Style::Red),
                (FindingState::New, _) => ("new".to_owned(), Style::Yellow),
                (FindingState::Was(before), after) if after < before => {
                    (format!("was {}", before.name()), Style::Red)
                }
                (FindingState::Was(before), _) => (format!("was {}", before.name()), Style::Green),
            };
            let place = finding
                .layer
                .as_ref()
                .map_or_else(String::new, |l| format!(" at {l}"));
            let title = format!("{state}: {} {}{place}", finding.severity.name(), finding.id);
            lines.extend(self.wrapped(&title, 2, style));
            lines.extend(self.wrapped(&finding.cause, 4, Style::Plain));
            if moved.state != FindingState::Gone {
                lines.extend(self.wrapped(&format!("fix: {}", finding.fix), 4, Style::Plain));
            }
        }
        lines
    }

    fn settings(&self) -> Vec<String> {
        let moves = &self.comparison.settings;
        if moves.is_empty() {
            return Vec::new();
        }
        let n_shown = if self.options.all {
            moves.len()
        } else {
            N_SHOWN.min(moves.len())
        };
        let mut grid = Grid::new(vec![Align::Left; 3]);
        let head = ["settings", "what", "A -> B"].map(|text| Cell::new(text, Style::Bold));
        grid.push(head.to_vec());
        let room = (self.options.width / 3).max(NAME_WIDTH);
        for moved in &moves[..n_shown] {
            grid.extend(settings_rows(moved, room));
        }
        let mut lines = grid.lines(0, self.options.colour);
        let left = moves.len() - n_shown;
        lines.extend((left > 0).then(|| format!("  {left} more layers (--all shows them)")));
        lines
    }

    fn unmatched(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let sides = [("A", &self.comparison.only_a), ("B", &self.comparison.only_b)];
        for (letter, places) in sides {
            if places.is_empty() {
                continue;
            }
            let n_shown = if self.options.all {
                places.len()
            } else {
                N_SHOWN.min(places.len())
            };
            lines.push(Style::Bold.paint(&format!("only in {letter}"), self.options.colour));
            for Unmatched {
                name,
                is_output,
                nearest,
            } in &places[..n_shown]
            {
                let kind = if *is_output { " (network output)" } else { "" };
                let nearest = nearest
                    .as_ref()
                    .map_or_else(String::new, |n| format!(", perhaps {n}"));
                lines.push(printable(&format!("  {name}{kind}{nearest}")));
            }
            let left = places.len() - n_shown;
            lines.extend((left > 0).then(|| format!("  {left} more (--all shows them)")));
        }
        lines
    }

    fn summary(&self) -> Vec<String> {
        let count = |view: View, is: &dyn Fn(f64) -> bool| {
            let layers = self.comparison.layers.iter();
            layers
                .filter_map(|l| l.change_db(view))
                .filter(|c| is(*c))
                .count()
        };
        let mut lines = Vec::new();
        for view in [View::Entire, View::Local] {
            let n = count(view, &|_| true);
            if n == 0 {
                continue;
            }
            let better = count(view, &|c| c >= super::NOISE_DB);
            let worse = count(view, &|c| c <= -super::NOISE_DB);
            lines.push(format!(
                "{}: {better} of {n} layers better, {worse} worse, {} as before",
                view.id(),
                n - better - worse
            ));
        }
        if !self.options.quiet {
            lines.extend(self.wrapped(
                "change is B - A, more dB are better; sorted by the largest change of any view",
                0,
                Style::Dim,
            ));
        }
        lines
    }

    fn wrapped(&self, text: &str, indent: usize, style: Style) -> Vec<String> {
        let lines = wrap(text, self.options.width.saturating_sub(indent));
        let painted = |line: &String| format!("{:indent$}{}", "", style.paint(line, self.options.colour));
        lines.iter().map(painted).collect()
    }
}

fn no_figures() -> [Cell; 3] {
    std::array::from_fn(|_| Cell::new("n/a", Style::Dim))
}

fn figures(moved: &ViewMove) -> [Cell; 3] {
    let decibels = |x: f64| {
        if x.is_finite() {
            format!("{x:.1}")
        } else {
            x.to_string()
        }
    };
    let change = moved.change_db();
    let style = match change {
        _ if change.abs() < super::NOISE_DB => Style::Dim,
        _ if change > 0.0 => Style::Green,
        _ => Style::Red,
    };
    let text = match change {
        _ if change.abs() < super::NOISE_DB => "0.0".to_owned(),
        _ if change.is_finite() => format!("{change:+.1}"),
        _ => format!("{change:+}"),
    };
    [
        Cell::plain(decibels(moved.a)),
        Cell::plain(decibels(moved.b)),
        Cell::new(text, style),
    ]
}

fn settings_rows(moved: &SettingsMove, room: usize) -> Vec<Vec<Cell>> {
    let row = |(idx, change): (usize, &super::SettingChange)| {
        let name = if idx == 0 {
            format!("  {}", shorten(&moved.layer, room))
        } else {
            String::new()
        };
        let style = if change.setting <= super::Setting::Dtype {
            Style::Yellow
        } else {
            Style::Plain
        };
        vec![
            Cell::plain(name),
            Cell::plain(change.setting.id().replace('_', " ")),
            Cell::new(&change.words, style),
        ]
    };
    moved.changes.iter().enumerate().map(row).collect()
}

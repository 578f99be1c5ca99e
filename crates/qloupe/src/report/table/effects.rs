//! The units that make most of the noise at the network outputs.

use super::super::grid::{Align, Cell, Grid, Style, shorten};
use super::super::ranking::most_effective;
use super::super::words;
use super::{N_WORST, NAME_WIDTH, Printer};

impl Printer<'_> {
    /// The units that make most of the noise at the outputs.
    pub(super) fn effects(&self) -> Vec<String> {
        let ranked = most_effective(self.report, N_WORST);
        let Some(additivity) = self.report.additivity.as_ref().filter(|_| !ranked.is_empty()) else {
            return Vec::new();
        };
        let bold = |text: &str| Cell::new(text, Style::Bold);
        let flips: Vec<Option<String>> = ranked
            .iter()
            .map(|(layer, _)| words::changed_answers(layer))
            .collect();
        let has_flips = flips.iter().any(Option::is_some);
        let mut aligns = vec![Align::Left, Align::Right, Align::Right, Align::Left];
        let mut head = vec![
            bold("most noise at the network outputs"),
            bold("alone"),
            bold("rescued"),
            bold("most of its own error"),
        ];
        if has_flips {
            aligns.insert(3, Align::Right);
            head.insert(3, bold("flips alone"));
        }
        let mut grid = Grid::new(aligns);
        grid.push(head);
        let room = self.options.width.saturating_sub(2 + 2 * 10 + 30).max(NAME_WIDTH);
        for ((layer, effect), flips) in ranked.into_iter().zip(flips) {
            // What its inputs bring is the error of those who write them.
            let own = layer
                .causes
                .iter()
                .find(|cause| !cause.source.starts_with("input_"));
            let cause = own.map_or("", |cause| cause.source.as_str());
            let mut row = vec![
                Cell::plain(format!("  {}", shorten(&words::node_words(layer), room))),
                Cell::plain(format!("{:.1}%", 100.0 * effect.share)),
                Cell::plain(format!("{:+.2} dB", effect.gain_db)),
                Cell::new(cause.replace('_', " "), Style::Dim),
            ];
            if has_flips {
                row.insert(3, Cell::plain(flips.unwrap_or_default()));
            }
            grid.push(row);
        }
        let mut lines = grid.lines(0, self.options.colour);
        lines.extend(self.wrapped(&words::additivity_words(additivity), 2, Style::Dim));
        lines
    }
}

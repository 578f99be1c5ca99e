//! The table of layers: a row each, with the figures of every view. A script sorts and filters it.

use std::collections::BTreeSet;

use super::super::ranking::Verdict;
use super::super::words::{self, Mark};
use super::super::{Layer, View};
use super::cells::{badge, class_of, figure_cell, title};
use super::{Page, markup};

/// Columns before the figures.
const N_TEXT: usize = 4;

impl Page<'_> {
    pub(super) fn layers(&self) -> String {
        if self.report.layers.is_empty() {
            return String::new();
        }
        let columns: Vec<(View, &str)> = self
            .views
            .iter()
            .flat_map(|view| words::columns(*view).iter().map(move |id| (*view, *id)))
            .collect();
        let groups: String = self
            .views
            .iter()
            .map(|view| {
                format!(
                    "<th class=\"group {class}\" colspan=\"{n}\" title=\"{words}\">{id}</th>",
                    class = super::plot::view_class(*view),
                    n = words::columns(*view).len(),
                    words = markup(view.words()),
                    id = view.id(),
                )
            })
            .collect();
        let heads = ["#", "layer", "op", "dtype"]
            .iter()
            .map(|head| sort_head(head, ""));
        let figures = columns
            .iter()
            .map(|(_, id)| sort_head(&title(id), " class=\"n\""));
        let heads: String = heads.chain(figures).chain([sort_head("verdict", "")]).collect();
        let rows: String = self
            .report
            .layers
            .iter()
            .enumerate()
            .map(|(idx, layer)| self.layer_row(idx, layer, &columns))
            .collect();
        format!(
            "{filter}<div class=\"scroll tall\"><table id=\"table\">\n<thead>\n<tr><th colspan=\"{N_TEXT}\"></th>{groups}<th></th></tr>\n\
             <tr>{heads}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n<p class=\"muted\">{legend}. A name opens \
             everything there is about the layer. The bar behind decibels is full at 60 dB.</p>\n",
            filter = self.filter(),
            legend = markup(&words::legend(&self.options.thresholds)),
        )
    }

    /// The controls of the script, which shows them.
    fn filter(&self) -> String {
        let ops: BTreeSet<&str> = self
            .report
            .layers
            .iter()
            .map(|layer| layer.op_type.as_str())
            .collect();
        let option = |value: &str, text: &str| {
            format!("<option value=\"{}\">{}</option>", markup(value), markup(text))
        };
        let ops: String = ops.into_iter().map(|op| option(op, op)).collect();
        let states = [
            ("", "every layer"),
            ("marked", "below a threshold"),
            ("culprit", "loses accuracy itself"),
            ("finding", "with a finding"),
            ("measured", "with numbers"),
        ];
        let states: String = states.iter().map(|(value, text)| option(value, text)).collect();
        format!(
            "<p class=\"filter script\"><input type=\"search\" id=\"search\" placeholder=\"part of a name\" aria-label=\"part of a name\">\n\
             <select id=\"op\" aria-label=\"operator\">{all}{ops}</select>\n<select id=\"state\" aria-label=\"state\">{states}</select>\n\
             <span id=\"count\" class=\"muted\"></span></p>\n",
            all = option("", "every op"),
        )
    }

    fn layer_row(&self, idx: usize, layer: &Layer, columns: &[(View, &str)]) -> String {
        let verdict = Verdict::on(layer, &self.options.thresholds);
        let marks = [View::Entire, View::Local]
            .iter()
            .filter_map(|view| view.of_layer(layer));
        let mark = marks
            .map(|m| Mark::of(m, &self.options.thresholds))
            .max()
            .unwrap_or(Mark::Good);
        let has_finding = self
            .report
            .findings
            .iter()
            .any(|f| f.layer.as_deref() == Some(&layer.name));
        let measured = self.views.iter().any(|view| view.of_layer(layer).is_some());
        let states = [
            ("measured", measured),
            ("marked", mark != Mark::Good),
            ("culprit", verdict == Some(Verdict::Culprit)),
            ("finding", has_finding),
        ];
        let states: Vec<&str> = states
            .iter()
            .filter(|(_, is)| *is)
            .map(|(state, _)| *state)
            .collect();
        let mut row = format!(
            "<tr id=\"row{idx}\" class=\"{class}\" data-state=\"{states}\" data-op=\"{op}\"><td class=\"n muted\" data-v=\"{idx}\">{number}</td>\
             <td><a class=\"name\" href=\"#layer{idx}\">{name}</a></td><td>{op}</td><td>{dtype}</td>",
            class = class_of(mark),
            number = idx + 1,
            states = states.join(" "),
            op = markup(&layer.op_type),
            name = markup(&layer.name),
            dtype = markup(&layer.dtype),
        );
        if measured {
            for (view, id) in columns {
                row.push_str(&figure_cell(view.of_layer(layer), id, &self.options.thresholds));
            }
        } else {
            let reason = markup(layer.reason.as_deref().unwrap_or("not measured"));
            row.push_str(&format!(
                "<td class=\"muted reason\" colspan=\"{}\">{reason}</td>",
                columns.len().max(1)
            ));
        }
        let mut words = verdict.map_or_else(String::new, |verdict| match verdict {
            Verdict::Culprit => badge(verdict.words(), "wrong"),
            Verdict::Victim => badge(verdict.words(), "slight"),
        });
        if has_finding {
            words.push_str(&badge("finding", "plain"));
        }
        row + &format!("<td class=\"verdict\">{words}</td></tr>\n")
    }
}

/// The head of a column that the script sorts by.
fn sort_head(text: &str, class: &str) -> String {
    format!("<th{class}><button type=\"button\" class=\"sort\">{text}</button></th>")
}

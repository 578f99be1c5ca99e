//! The top of the page: how good it is, the network outputs, and what to do.

use super::super::ranking::{Verdict, worst_layers};
use super::super::view::figure_of;
use super::super::words::{self, Mark};
use super::super::{Finding, Metrics, Severity, View, confidence, figure};
use super::cells::{badge, class_of, figure_cell, heads, severity_class, table, title};
use super::{Page, markup};

/// Units in each list of the worst.
const N_WORST: usize = 8;

impl Page<'_> {
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for part in words::dead_parts(self.report) {
            let sentence = markup(&words::dead_sentence(&part));
            text.push_str(&format!(
                "<p class=\"banner alarm\"><strong>DEAD</strong> {sentence}</p>\n"
            ));
        }
        text.push_str(&self.verdict());
        for gate in &self.report.gates {
            let class = if gate.passed { "good" } else { "wrong" };
            text.push_str(&format!(
                "<p class=\"banner {class}\">{}</p>\n",
                markup(&gate.words)
            ));
        }
        text.push_str(&self.tiles());
        text + &self.worst()
    }

    /// The worse of the marks of `entire` and `local`, of each layer that has one.
    fn marks(&self) -> Vec<Mark> {
        let of = |layer| {
            let views = [View::Entire, View::Local];
            let marks = views.iter().filter_map(|view: &View| view.of_layer(layer));
            marks
                .map(|metrics| Mark::of(metrics, &self.options.thresholds))
                .max()
        };
        self.report.layers.iter().filter_map(of).collect()
    }

    fn verdict(&self) -> String {
        let marks = self.marks();
        let count = |mark| marks.iter().filter(|m| **m == mark).count();
        let (n_wrong, n_slight) = (count(Mark::Wrong), count(Mark::Slight));
        let worst = marks.iter().copied().max().unwrap_or(Mark::Good);
        let thresholds = &self.options.thresholds;
        let words = match (marks.len(), n_wrong, n_slight) {
            (0, _, _) => return String::new(),
            (n, 0, 0) => format!(
                "Every cosine of {} is at least {}.",
                figure::count(n, "layer"),
                thresholds.slight
            ),
            (n, _, _) => format!(
                "Of {}: {n_wrong} with a cosine below {} (wrong), {n_slight} more below {} (slightly inconsistent).",
                figure::count(n, "layer"),
                thresholds.wrong,
                thresholds.slight
            ),
        };
        format!("<p class=\"banner {}\">{}</p>\n", class_of(worst), markup(&words))
    }

    fn tiles(&self) -> String {
        let mut tiles = Vec::new();
        let parts = self.report.outputs.iter().flat_map(|output| {
            let slices = output.slices.iter().map(|slice| {
                let name = format!(
                    "{} {}",
                    output.name,
                    words::slice_words(slice, output.shape.len())
                );
                (name, View::Entire.of(&slice.views, None))
            });
            let whole = (output.name.clone(), View::Entire.of_output(output));
            std::iter::once(whole).chain(slices).collect::<Vec<_>>()
        });
        let sqnr_db = |metrics: &Metrics| figure_of(metrics, "sqnr_db");
        let judged = parts.filter_map(|(name, metrics)| Some((name, sqnr_db(metrics?)?)));
        let key = |db: f64| if db.is_nan() { f64::NEG_INFINITY } else { db };
        if let Some((name, db)) = judged.min_by(|a, b| key(a.1).total_cmp(&key(b.1))) {
            tiles.push((
                "worst network output".to_owned(),
                format!("{} dB", figure::decibels(db)),
                name,
            ));
        }
        for view in [View::Entire, View::Local] {
            if let Some((layer, db)) = worst_layers(self.report, view, 1).first() {
                let label = format!("worst layer, {}", view.id());
                tiles.push((label, format!("{} dB", figure::decibels(*db)), layer.name.clone()));
            }
        }
        let count = |severity| {
            self.report
                .findings
                .iter()
                .filter(|f| f.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        if !self.report.findings.is_empty() {
            let more = format!(
                "{}, {}, {} for information",
                figure::count(errors, "error"),
                figure::count(warnings, "warning"),
                count(Severity::Info)
            );
            tiles.push((
                "findings".to_owned(),
                self.report.findings.len().to_string(),
                more,
            ));
        }
        let samples = &self.report.samples;
        tiles.push((
            "samples".to_owned(),
            samples.n.to_string(),
            samples.source.clone(),
        ));
        let tile = |(label, figure, more): &(String, String, String)| {
            format!(
                "<div class=\"tile\"><p class=\"muted\">{}</p><p class=\"figure\">{}</p><p class=\"more\">{}</p></div>\n",
                markup(label),
                markup(figure),
                markup(more)
            )
        };
        let tiles: String = tiles.iter().map(tile).collect();
        format!("<div class=\"tiles\">\n{tiles}</div>\n")
    }

    fn worst(&self) -> String {
        let mut lists = String::new();
        for view in [View::Entire, View::Local] {
            let row = |(layer, _): &(&super::super::Layer, f64)| {
                let verdict = Verdict::on(layer, &self.options.thresholds);
                let class = match verdict {
                    Some(Verdict::Culprit) => "wrong",
                    _ => "slight",
                };
                let verdict = verdict.map_or_else(String::new, |v| badge(v.words(), class));
                let figures = [View::Entire, View::Local]
                    .map(|view| figure_cell(view.of_layer(layer), "sqnr_db", &self.options.thresholds));
                format!(
                    "<td>{}<br><span class=\"muted\">{}</span> {verdict}</td>{}",
                    self.link(&layer.name),
                    markup(&words::node_words(layer)),
                    figures.concat()
                )
            };
            let rows: Vec<String> = worst_layers(self.report, view, N_WORST).iter().map(row).collect();
            if !rows.is_empty() {
                let head = format!("worst by {}", view.id());
                lists.push_str(&table(
                    "worst",
                    &heads(&[head.as_str(), "entire, dB", "local, dB"], 1),
                    &rows,
                ));
            }
        }
        lists.push_str(&self.largest_effects());
        if lists.is_empty() {
            lists
        } else {
            format!("<div class=\"pair\">\n{lists}</div>\n")
        }
    }

    /// The units that cost most at the network outputs, where that was measured.
    fn largest_effects(&self) -> String {
        let layers = self.report.layers.iter();
        let mut ranked: Vec<_> = layers.filter_map(|layer| Some((layer, layer.effect?))).collect();
        ranked.sort_by(|a, b| b.1.gain_db.total_cmp(&a.1.gain_db));
        ranked.truncate(N_WORST);
        let row = |(layer, effect): &(&super::super::Layer, super::super::Effect)| {
            format!(
                "<td>{}<br><span class=\"muted\">{}</span></td><td class=\"n\">{:+.2}</td><td class=\"n\">{:.1} %</td>",
                self.link(&layer.name),
                markup(&words::node_words(layer)),
                effect.gain_db,
                100.0 * effect.share
            )
        };
        let rows: Vec<String> = ranked.iter().map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        let head = ["worst at the outputs", "gain, dB", "noise"];
        table("worst", &heads(&head, 1), &rows)
    }

    pub(super) fn outputs(&self) -> String {
        let report = self.report;
        let on_device = report.outputs.iter().any(|output| output.runtime.is_some());
        let device: &[&str] = if on_device {
            words::columns(View::RuntimeEntire)
        } else {
            &[]
        };
        let titles = words::OUTPUT_COLUMNS.iter().map(|id| title(id));
        let device_titles = device.iter().map(|id| format!("device {}", title(id)));
        let titles: Vec<String> = std::iter::once("output".to_owned())
            .chain(titles)
            .chain(device_titles)
            .collect();
        let figures = |metrics: Option<&Metrics>, ids: &[&str]| -> String {
            ids.iter()
                .map(|id| figure_cell(metrics, id, &self.options.thresholds))
                .collect()
        };
        let dead = |is_dead| {
            if is_dead {
                badge("dead", "alarm")
            } else {
                String::new()
            }
        };
        let mut rows = Vec::new();
        for output in &report.outputs {
            let head = format!(
                "<td>{} <span class=\"muted\">{}</span> {}</td>",
                self.link(&output.name),
                markup(&figure::shape(&output.shape)),
                dead(output.dead)
            );
            rows.push(match &output.reason {
                Some(reason) => format!(
                    "{head}<td class=\"muted\" colspan=\"{}\">{}</td>",
                    titles.len() - 1,
                    markup(reason)
                ),
                None => {
                    let entire = figures(View::Entire.of_output(output), &words::OUTPUT_COLUMNS);
                    head + &entire + &figures(View::RuntimeEntire.of_output(output), device)
                }
            });
            for slice in &output.slices {
                let name = markup(&words::slice_words(slice, output.shape.len()));
                let mut row = format!(
                    "<td class=\"part\"><span class=\"name\">{name}</span> {}</td>",
                    dead(slice.dead)
                );
                row.push_str(&figures(
                    View::Entire.of(&slice.views, None),
                    &words::OUTPUT_COLUMNS,
                ));
                row.push_str(&"<td></td>".repeat(device.len()));
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return String::new();
        }
        let lines = report.outputs.iter().flat_map(confidence::output_words);
        let lines: String = lines
            .map(|line| format!("<li>{}</li>\n", markup(&line)))
            .collect();
        let lines = if lines.is_empty() {
            lines
        } else {
            format!("<ul class=\"muted\">\n{lines}</ul>\n")
        };
        table("", &heads(&titles, 1), &rows) + &lines
    }

    /// The task accuracy, where labels were given.
    pub(super) fn accuracy(&self) -> String {
        let lines = confidence::accuracy_words(self.report);
        let Some((first, scores)) = lines.split_first() else {
            return String::new();
        };
        let scores: String = scores
            .iter()
            .map(|line| format!("<li>{}</li>\n", markup(line)))
            .collect();
        format!("<p>{}</p>\n<ul>\n{scores}</ul>\n", markup(first))
    }

    /// The findings as they are ordered in the report: the most severe first.
    pub(super) fn findings(&self) -> String {
        let mut findings: Vec<&Finding> = self.report.findings.iter().collect();
        findings.sort_by_key(|finding| finding.severity);
        findings
            .into_iter()
            .map(|finding| self.finding(finding))
            .collect()
    }

    pub(super) fn finding(&self, finding: &Finding) -> String {
        let class = severity_class(finding.severity);
        let place = match &finding.layer {
            Some(layer) => format!("at {}", self.link(layer)),
            None => "the whole model".to_owned(),
        };
        let effect = finding.effect_db.map_or_else(String::new, |db| {
            badge(&format!("{} dB at the outputs", figure::decibels(db)), "plain")
        });
        let tried = finding.tried.as_ref().map_or_else(String::new, |tried| {
            format!("<br><strong>{}</strong>", markup(&words::tried_words(tried)))
        });
        format!(
            "<article class=\"finding {class}\">\n<p>{} <code>{}</code> {place} {effect}</p>\n<h3>{}</h3>\n<p>{}</p>\n\
             <p class=\"fix\"><strong>Fix</strong> {}{tried}</p>\n</article>\n",
            badge(finding.severity.name(), class),
            markup(&finding.id),
            markup(&finding.cause),
            markup(&finding.evidence),
            markup(&finding.fix),
        )
    }
}

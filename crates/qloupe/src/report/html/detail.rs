//! Everything about one layer, in a panel that its link opens.

use std::collections::BTreeMap;

use super::super::confidence::flip_words;
use super::super::ranking::Verdict;
use super::super::{Cause, Layer, MetricValue, Metrics, View, figure};
use super::super::{confidence, words};
use super::cells::{badge, figure_cell, heads, table, title};
use super::{Page, markup};
use crate::metrics;

/// Scales that are listed; more are summed up first.
const N_LISTED: usize = 8;

impl Page<'_> {
    /// The panels of all layers.
    pub(super) fn panels(&self) -> String {
        let panel = |(idx, layer)| self.panel(idx, layer);
        let panels: String = self.report.layers.iter().enumerate().map(panel).collect();
        if panels.is_empty() {
            panels
        } else {
            format!("<div id=\"panels\">\n{panels}</div>\n")
        }
    }

    fn panel(&self, idx: usize, layer: &Layer) -> String {
        let n = self.report.layers.len();
        let step = |to: Option<usize>, text: &str| match to.filter(|to| *to < n) {
            Some(to) => format!("<a href=\"#layer{to}\" class=\"step\">{text}</a>"),
            None => format!("<span class=\"step absent\">{text}</span>"),
        };
        let verdict = Verdict::on(layer, &self.options.thresholds).map_or_else(String::new, |verdict| {
            let class = if verdict == Verdict::Culprit {
                "wrong"
            } else {
                "slight"
            };
            badge(verdict.words(), class)
        });
        let parts = [
            self.told(layer),
            self.facts(layer),
            self.views_table(layer),
            effects(
                self,
                "alone",
                "Only this layer quantized, at each network output",
                &layer.views.alone,
            ),
            effects(
                self,
                "rescued",
                "Everything but this layer quantized, at each network output",
                &layer.views.rescued,
            ),
            causes(&layer.causes),
            provenance(layer),
            self.findings_at(layer),
        ];
        format!(
            "<aside class=\"panel\" id=\"layer{idx}\">\n<p class=\"steps\">{before}{after}<a class=\"close\" href=\"#row{idx}\" \
             aria-label=\"close\">close</a></p>\n<h2 class=\"name\">{name}</h2>\n<p>{op} <span class=\"muted\">{node}, layer {number} of {n}</span> \
             {verdict}</p>\n{parts}</aside>\n",
            number = idx + 1,
            before = step(idx.checked_sub(1), "layer before"),
            after = step(Some(idx + 1), "layer after"),
            name = markup(&layer.name),
            op = badge(&layer.op_type, "plain"),
            node = markup(&words::node_words(layer)),
            parts = parts.concat(),
        )
    }

    /// The story of the layer in plain words.
    fn told(&self, layer: &Layer) -> String {
        let paragraphs = self.report.story(&layer.name).unwrap_or_default();
        let paragraphs: String = paragraphs
            .iter()
            .map(|text| format!("<p>{}</p>\n", markup(text)))
            .collect();
        if paragraphs.is_empty() {
            paragraphs
        } else {
            format!("<div class=\"story\">\n{paragraphs}</div>\n")
        }
    }

    fn facts(&self, layer: &Layer) -> String {
        let mut facts: Vec<(&str, String)> = Vec::new();
        if let Some(reason) = &layer.reason {
            facts.push(("no numbers", markup(reason)));
        }
        if let Some(into) = &layer.fused_into {
            facts.push(("fused into", self.link(into)));
        }
        if !layer.unit.is_empty() {
            let nodes: String = layer
                .unit
                .iter()
                .map(|node| format!("<li>{}</li>", markup(node)))
                .collect();
            facts.push(("executed as one", format!("<ol class=\"nodes\">{nodes}</ol>")));
        }
        if !layer.dtype.is_empty() {
            facts.push(("stored as", markup(&layer.dtype)));
        }
        facts.push(("shape", markup(&figure::shape(&layer.shape))));
        if let Some(range) = &layer.range {
            facts.push((
                "calibrated range",
                format!("{} to {}", figure::plain(range.min), figure::plain(range.max)),
            ));
        }
        if let Some(seen) = &layer.seen {
            facts.push((
                "seen",
                format!("{} to {}", figure::plain(seen.min), figure::plain(seen.max)),
            ));
        }
        if let Some(effect) = &layer.effect {
            facts.push((
                "at the outputs",
                format!(
                    "{:.1} % of the noise of all units, each alone; {:+.2} dB without its error{}",
                    100.0 * effect.share,
                    effect.gain_db,
                    if effect.is_exact { "" } else { " (estimated)" }
                ),
            ));
        }
        for (part, flips) in &layer.flips {
            facts.push(("flips alone", format!("{part}: {}", flip_words(flips))));
        }
        if !layer.scale.is_empty() {
            facts.push(("scale", numbers(&layer.scale, |x| format!("{x}"))));
            facts.push(("zero point", numbers(&layer.zero_point, |x| x.to_string())));
        }
        for (name, n) in [
            ("NaN elements", layer.n_nan),
            ("infinite elements", layer.n_infinite),
        ] {
            if n > 0 {
                facts.push((name, format!("<strong class=\"wrong\">{n}</strong>")));
            }
        }
        if let Some(words) = confidence::worst_words(&layer.worst_samples) {
            facts.push(("worst samples", markup(&words)));
        }
        let facts: String = facts
            .iter()
            .map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n"))
            .collect();
        format!("<dl>\n{facts}</dl>\n")
    }

    /// Every metric of every view.
    fn views_table(&self, layer: &Layer) -> String {
        let effects = [View::Alone, View::Rescued];
        let views: Vec<(View, &Metrics)> = View::ALL
            .into_iter()
            .filter(|view| !effects.contains(view))
            .filter_map(|view| Some((view, view.of_layer(layer)?)))
            .collect();
        if views.is_empty() {
            return String::new();
        }
        let mut titles = vec!["metric".to_owned()];
        titles.extend(views.iter().map(|(view, _)| view.id().to_owned()));
        let rows: Vec<String> = metrics::ALL
            .iter()
            .filter(|metric| views.iter().any(|(_, metrics)| metrics.contains_key(metric.id())))
            .map(|metric| {
                let figures = views.iter().map(|(_, metrics)| {
                    let cell = figure_cell(Some(metrics), metric.id(), &self.options.thresholds);
                    match metrics.get(metric.id()) {
                        Some(value) => cell.replace("</td>", &format!("{}</td>", spread(metric.id(), value))),
                        None => cell,
                    }
                });
                let unit = if metric.unit().is_empty() {
                    String::new()
                } else {
                    format!(", {}", metric.unit())
                };
                let head = format!(
                    "<td title=\"{}\">{}{unit}</td>",
                    markup(metric.formula()),
                    markup(metric.title())
                );
                head + &figures.collect::<String>()
            })
            .collect();
        let inputs = layer
            .runtime
            .as_ref()
            .filter(|runtime| !runtime.local_inputs.is_empty());
        let inputs = inputs.map_or_else(String::new, |runtime| {
            format!(
                "<p class=\"muted\">runtime.local was fed {} inputs</p>\n",
                markup(&runtime.local_inputs)
            )
        });
        let n = views
            .iter()
            .flat_map(|(_, metrics)| metrics.values())
            .map(|value| value.n)
            .max();
        let over = n.filter(|n| *n > 1).map_or_else(String::new, |n| {
            format!(
                "<p class=\"muted\">Below each figure: the smallest to the largest of {n} samples, and their mean with its 95% \
                 interval.</p>\n"
            )
        });
        format!(
            "<h3>Errors</h3>\n{over}{}{inputs}",
            table("", &heads(&titles, 1), &rows)
        )
    }

    fn findings_at(&self, layer: &Layer) -> String {
        let found = self
            .report
            .findings
            .iter()
            .filter(|f| f.layer.as_deref() == Some(&layer.name));
        found.map(|finding| self.finding(finding)).collect()
    }
}

/// What lies between samples, under the figure for all of them.
fn spread(id: &str, value: &MetricValue) -> String {
    if value.n < 2 {
        return String::new();
    }
    let words = |x| figure::of_metric(id, x);
    let half = value.mean_high.map_or_else(String::new, |high| {
        format!(" &#177; {}", figure::plain(high - value.mean))
    });
    format!(
        "<small>{} to {}, std {}<br>mean {}{half}</small>",
        words(value.min),
        words(value.max),
        figure::plain(value.std),
        words(value.mean),
    )
}

/// One number, or many with what they lie between.
fn numbers<T: PartialOrd + Copy>(values: &[T], words: impl Fn(T) -> String) -> String {
    let list = || {
        let items: Vec<String> = values.iter().map(|value| markup(&words(*value))).collect();
        items.join(", ")
    };
    if values.len() <= N_LISTED {
        return list();
    }
    let least = values.iter().copied().reduce(|a, b| if b < a { b } else { a });
    let most = values.iter().copied().reduce(|a, b| if b > a { b } else { a });
    let (Some(least), Some(most)) = (least, most) else {
        return String::new();
    };
    format!(
        "<details><summary>{} channels, {} to {}</summary>{}</details>",
        values.len(),
        markup(&words(least)),
        markup(&words(most)),
        list()
    )
}

/// What the layer does to each network output.
fn effects(page: &Page<'_>, view: &str, heading: &str, results: &BTreeMap<String, Metrics>) -> String {
    if results.is_empty() {
        return String::new();
    }
    let ids = ["cosine", "sqnr_db", "euclidean_rel", "max_abs"];
    let titles: Vec<String> = std::iter::once(view.to_owned()).chain(ids.map(title)).collect();
    let rows: Vec<String> = results
        .iter()
        .map(|(output, metrics)| {
            let figures = ids.map(|id| figure_cell(Some(metrics), id, &page.options.thresholds));
            format!("<td>{}</td>{}", page.link(output), figures.concat())
        })
        .collect();
    format!("<h3>{heading}</h3>\n{}", table("", &heads(&titles, 1), &rows))
}

/// What the local error is made of: a bar of the shares, and a row for each.
fn causes(causes: &[Cause]) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let percent = |share: f64| {
        if share.is_finite() {
            (share * 100.0).clamp(0.0, 100.0)
        } else {
            0.0
        }
    };
    let parts: String = causes
        .iter()
        .enumerate()
        .map(|(idx, cause)| {
            format!(
                "<span class=\"cause{}\" style=\"width:{:.1}%\" title=\"{}\"></span>",
                idx % 6,
                percent(cause.share),
                markup(&cause.source)
            )
        })
        .collect();
    let rows: Vec<String> = causes
        .iter()
        .enumerate()
        .map(|(idx, cause)| {
            format!(
                "<td><span class=\"key cause{}\"></span> {}<br><span class=\"muted\">{}</span></td><td class=\"n\">{:.1} %</td>\
                 <td class=\"n\">{:.1} %</td><td class=\"n\">{}</td>",
                idx % 6,
                markup(&cause.source.replace('_', " ")),
                markup(&cause.detail),
                cause.share * 100.0,
                cause.avoidable * 100.0,
                figure::decibels(cause.sqnr_db)
            )
        })
        .collect();
    format!(
        "<h3>What the local error is made of</h3>\n<p class=\"causes\">{parts}</p>\n{}",
        table(
            "",
            &heads(
                &[
                    "source",
                    "share of the energy",
                    "of it avoidable",
                    "sqnr, this source alone"
                ],
                1
            ),
            &rows
        )
    )
}

fn provenance(layer: &Layer) -> String {
    if layer.provenance.is_empty() {
        return String::new();
    }
    let items: String = layer
        .provenance
        .iter()
        .map(|step| {
            format!(
                "<li><code>{}</code> {}</li>\n",
                markup(&step.pass),
                markup(&step.change)
            )
        })
        .collect();
    format!("<h3>Rewrites</h3>\n<ol>\n{items}</ol>\n")
}

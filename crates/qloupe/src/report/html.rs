//! The report as one self-contained HTML page: what is wrong first, then every layer, with everything it takes to read it.
//!
//! It asks no network for anything, and reads without JavaScript: a script only sorts and filters the table. Each layer
//! has a panel that its link opens.

mod cells;
mod detail;
mod explain;
mod layers;
mod plot;
mod summary;

use std::collections::BTreeMap;

use super::escape::markup;
use super::words;
use super::{Options, Report, ReportFormat, View};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// The report as a web page.
pub(super) struct Html;

impl ReportFormat for Html {
    fn id(&self) -> &'static str {
        "html"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("html")
    }
    fn write(&self, report: &Report, options: &Options) -> String {
        Page::new(report, options).document()
    }
}

/// A report and what its sections share.
struct Page<'a> {
    report: &'a Report,
    options: &'a Options,
    /// The views that some layer has.
    views: Vec<View>,
    /// Where the layer of a name is.
    position: BTreeMap<&'a str, usize>,
}

/// A part of the page; empty ones are left out.
struct Section {
    id: &'static str,
    title: &'static str,
    body: String,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report, options: &'a Options) -> Self {
        let layers = report.layers.iter().enumerate();
        Self {
            report,
            options,
            views: View::of_report(report),
            position: layers.map(|(idx, layer)| (layer.name.as_str(), idx)).collect(),
        }
    }

    fn document(&self) -> String {
        let section = |id, title, body| Section { id, title, body };
        let sections = [
            section("summary", "Summary", self.summary()),
            section("outputs", "Network outputs", self.outputs()),
            section("accuracy", "Task accuracy", self.accuracy()),
            section("findings", "Findings", self.findings()),
            section("depth", "Error over depth", self.depth()),
            section("layers", "Layers", self.layers()),
            section("reading", "How to read this", self.reading()),
            section("costs", "Cost", self.costs()),
            section("about", "About this report", self.about()),
        ];
        let sections: Vec<Section> = sections.into_iter().filter(|s| !s.body.is_empty()).collect();
        let links: String = sections
            .iter()
            .map(|s| format!("<a href=\"#{}\">{}</a>\n", s.id, s.title))
            .collect();
        let bodies: String = sections
            .iter()
            .map(|s| {
                format!(
                    "<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n",
                    id = s.id,
                    title = s.title,
                    body = s.body
                )
            })
            .collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{header}<main>\n{bodies}</main>\n\
             {panels}<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            title = markup(&format!(
                "{} on {}: qloupe",
                self.report.model.file, self.report.target
            )),
            header = self.header(&links),
            panels = self.panels(),
        )
    }

    fn header(&self, links: &str) -> String {
        format!(
            "<header>\n<p class=\"brand\">qloupe</p>\n<h1>{}</h1>\n<p class=\"muted\">{}</p>\n\
             <nav>\n{links}<button type=\"button\" id=\"theme\" class=\"script\">light / dark</button>\n</nav>\n</header>\n",
            markup(&words::headline(self.report)),
            markup(&words::subtitle(self.report)),
        )
    }

    /// A link to the panel of a layer, or its name where it has none.
    fn link(&self, name: &str) -> String {
        let text = markup(name);
        match self.position.get(name) {
            Some(idx) => format!("<a class=\"name\" href=\"#layer{idx}\">{text}</a>"),
            None => format!("<span class=\"name\">{text}</span>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{on_device, sample};

    fn written(report: &Report) -> String {
        Html.write(report, &Options::default())
    }

    /// The page without style and script.
    fn body(report: &Report) -> String {
        written(report).replace(STYLE, "").replace(SCRIPT, "")
    }

    /// The page as XML: it is written so that it is both, but for the doctype and elements that HTML never closes.
    fn parse(text: &str) {
        let start = text.find("<html").expect("a page");
        let xml = ["<meta charset", "<meta name", "<meta http", "<input", "<br"]
            .iter()
            .fold(text[start..].to_owned(), |xml, element| close(&xml, element));
        let xml = xml
            .replace(STYLE, "")
            .replace(SCRIPT, "")
            .replace(" hidden>", ">");
        if let Err(error) = roxmltree::Document::parse(&xml) {
            let line = xml.lines().nth(error.pos().row as usize - 1).unwrap_or_default();
            panic!("{error}\n{line}");
        }
    }

    fn close(xml: &str, element: &str) -> String {
        let mut parts = xml.split(element);
        let mut closed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            closed.push_str(element);
            closed.push_str(&part.replacen('>', "/>", 1));
        }
        closed
    }

    #[test]
    fn the_sample_is_written() {
        insta::assert_snapshot!("html", body(&sample()));
        insta::assert_snapshot!("html_on_device", body(&on_device()));
    }

    #[test]
    fn every_element_is_closed_whatever_is_absent() {
        let mut bare = sample();
        bare.outputs.clear();
        bare.findings.clear();
        bare.costs.clear();
        bare.skipped.clear();
        for layer in &mut bare.layers {
            layer.views = Default::default();
        }
        for report in [sample(), on_device(), bare, Report::default()] {
            parse(&written(&report));
        }
    }

    #[test]
    fn names_are_never_markup() {
        const NAME: &str = "<img src=x onerror=alert(1)>\"'&";
        let mut report = on_device();
        let n_images = |report: &Report| written(report).matches("<img").count();
        assert_eq!(n_images(&report), 0);
        for layer in &mut report.layers {
            for text in [
                &mut layer.name,
                &mut layer.op_type,
                &mut layer.node,
                &mut layer.dtype,
            ] {
                NAME.clone_into(text);
            }
            layer.unit = vec![NAME.to_owned(), NAME.to_owned()];
            layer.fused_into = layer.fused_into.as_ref().map(|_| NAME.to_owned());
            layer.reason = layer.reason.as_ref().map(|_| NAME.to_owned());
            for cause in &mut layer.causes {
                NAME.clone_into(&mut cause.source);
                NAME.clone_into(&mut cause.detail);
            }
            for rewrite in &mut layer.provenance {
                NAME.clone_into(&mut rewrite.pass);
                NAME.clone_into(&mut rewrite.change);
            }
            let renamed = |views: &BTreeMap<String, crate::report::Metrics>| {
                views.values().map(|m| (NAME.to_owned(), m.clone())).collect()
            };
            layer.views.alone = renamed(&layer.views.alone);
            layer.views.rescued = renamed(&layer.views.rescued);
        }
        for output in &mut report.outputs {
            NAME.clone_into(&mut output.name);
            for sample in &mut output.worst_samples {
                sample.file = Some(NAME.to_owned());
            }
            for slice in &mut output.slices {
                slice.label = Some(NAME.to_owned());
            }
        }
        for finding in &mut report.findings {
            for text in [
                &mut finding.id,
                &mut finding.cause,
                &mut finding.evidence,
                &mut finding.fix,
            ] {
                NAME.clone_into(text);
            }
            finding.layer = Some(NAME.to_owned());
        }
        for skipped in &mut report.skipped {
            for text in [&mut skipped.name, &mut skipped.op_type, &mut skipped.reason] {
                NAME.clone_into(text);
            }
        }
        for cost in &mut report.costs {
            NAME.clone_into(&mut cost.precision);
            cost.device = Some(NAME.to_owned());
            cost.reason = Some(NAME.to_owned());
        }
        if let Some(accuracy) = &mut report.accuracy {
            for text in [&mut accuracy.task, &mut accuracy.output, &mut accuracy.labels] {
                NAME.clone_into(text);
            }
        }
        for pair in report
            .additivity
            .iter_mut()
            .flat_map(|additivity| &mut additivity.pairs)
        {
            NAME.clone_into(&mut pair.first);
            NAME.clone_into(&mut pair.second);
        }
        for gate in &mut report.gates {
            NAME.clone_into(&mut gate.words);
        }
        report.notes = vec![NAME.to_owned()];
        let texts = [
            &mut report.model.file,
            &mut report.target,
            &mut report.mode,
            &mut report.plan.algorithm,
            &mut report.samples.source,
        ];
        for text in texts {
            NAME.clone_into(text);
        }
        report.plan.file = Some(NAME.to_owned());
        assert_eq!(n_images(&report), 0);
        parse(&written(&report));
    }

    #[test]
    fn nothing_is_fetched() {
        let text = written(&on_device());
        for outside in ["http://", "https://", " src=", "@import", "url("] {
            assert!(!text.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_link_leads_somewhere() {
        let text = written(&on_device());
        for part in text.split("href=\"#").skip(1) {
            let (id, _) = part.split_once('"').expect("a closed attribute");
            assert!(text.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
}

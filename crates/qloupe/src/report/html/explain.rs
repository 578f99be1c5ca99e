//! What a reader needs to know: the views, the colours, the metrics; then costs, and where the numbers come from.

use super::super::{View, words};
use super::cells::{badge, heads, table};
use super::{Page, markup};
use crate::metrics::{self, Reduction};

/// The question that a view answers.
fn question(view: View) -> &'static str {
    match view {
        View::Entire => "Is the signal damaged here?",
        View::Tensor => "Is the scale of this value bad?",
        View::Local => "Does this layer do the damage?",
        View::Alone => "What does this layer cost at the network outputs?",
        View::Rescued => "What is won back by a higher precision for this layer?",
        View::RuntimeEntire => "Is the signal damaged here on the device?",
        View::RuntimeSimulator => "Does the device compute what the simulator computes?",
        View::RuntimeLocal => "Does the device do the damage in this layer?",
    }
}

impl Page<'_> {
    pub(super) fn reading(&self) -> String {
        let views: Vec<String> = View::ALL
            .into_iter()
            .map(|view| {
                let absent = if self.views.contains(&view) {
                    String::new()
                } else {
                    " <span class=\"muted\">not in this report</span>".to_owned()
                };
                format!(
                    "<td><strong class=\"{}\">{}</strong>{absent}</td><td>{}</td><td>{}</td>",
                    super::plot::view_class(view),
                    view.id(),
                    markup(view.words()),
                    question(view)
                )
            })
            .collect();
        let rules = [
            (
                "<em>entire</em> bad, <em>local</em> good",
                "the layer suffers from an earlier one: look further up",
                badge("inherits error", "slight"),
            ),
            (
                "<em>entire</em> bad, <em>local</em> bad",
                "look here first",
                badge("loses accuracy itself", "wrong"),
            ),
            (
                "<em>local</em> bad, <em>alone</em> good",
                "harmless: the network outputs do not feel it",
                String::new(),
            ),
            (
                "<em>local</em> good, <em>rescued</em> much better than the output now",
                "the layer makes the errors of others worse",
                String::new(),
            ),
        ];
        let rules: Vec<String> = rules
            .iter()
            .map(|(seen, meaning, badge)| format!("<td>{seen}</td><td>{meaning} {badge}</td>"))
            .collect();
        let metrics: Vec<String> = metrics::ALL
            .iter()
            .map(|metric| {
                let over = match metric.reduction() {
                    Reduction::Mean => "mean",
                    Reduction::Pooled => "pooled",
                    Reduction::Worst => "worst",
                };
                format!(
                    "<td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{over}</td>",
                    metric.id(),
                    markup(metric.formula()),
                    metric.unit(),
                    metric.direction().words()
                )
            })
            .collect();
        let thresholds = &self.options.thresholds;
        format!(
            "<p>A row is one value that the target computes. Its error is the difference between the float model (golden) and the \
             model under test. It is measured in several views:</p>\n{views}<h3>What they mean together</h3>\n{rules}\
             <h3>Colours</h3>\n<p>{slight} cosine below {}: slightly inconsistent. {wrong} below {}: this layer is wrong. A cosine near 1 \
             proves nothing by itself: an output that died can have one, which is why outputs are judged in parts and findings do not rest \
             on it. <em>sqnr</em> is signal over error: 20 dB is an error of a tenth, 40 dB of a hundredth.</p>\n\
             <h3>Metrics</h3>\n{metrics}<p class=\"muted\">r is the golden value, t the tested one, n the number of elements. The last column says how \
             samples become one figure.</p>\n",
            thresholds.slight,
            thresholds.wrong,
            views = table("", &heads(&["view", "what runs", "the question"], 3), &views),
            rules = table("", &heads(&["seen", "meaning"], 2), &rules),
            slight = badge("~", "slight"),
            wrong = badge("!", "wrong"),
            metrics = table(
                "",
                &heads(&["metric", "formula", "unit", "better", "samples"], 5),
                &metrics
            ),
        )
    }

    pub(super) fn costs(&self) -> String {
        let costs = &self.report.costs;
        if costs.is_empty() {
            return String::new();
        }
        let precisions = costs.iter().map(|cost| markup(&cost.precision));
        let titles: Vec<String> = std::iter::once("cost".to_owned()).chain(precisions).collect();
        let rows: Vec<String> = words::cost_rows(costs)
            .into_iter()
            .map(|(title, figures)| {
                let figures: String = figures
                    .iter()
                    .map(|f| format!("<td class=\"n\">{}</td>", markup(f)))
                    .collect();
                format!("<td>{}</td>{figures}", markup(&title))
            })
            .collect();
        let reasons: String = words::cost_reasons(costs)
            .iter()
            .map(|reason| format!("<p class=\"muted\">n/a {}</p>\n", markup(reason)))
            .collect();
        table("", &heads(&titles, 1), &rows) + &reasons
    }

    pub(super) fn about(&self) -> String {
        let report = self.report;
        let mut text: String = report
            .notes
            .iter()
            .map(|note| format!("<p>{}</p>\n", markup(note)))
            .collect();
        if let Some(file) = &report.plan.file {
            text.push_str(&format!("<p>Plan: <code>{}</code></p>\n", markup(file)));
        }
        if let Some(words) = words::skipped_words(report) {
            let rows: Vec<String> = report
                .skipped
                .iter()
                .map(|s| {
                    format!(
                        "<td class=\"name\">{}</td><td>{}</td><td>{}</td>",
                        markup(&s.name),
                        markup(&s.op_type),
                        markup(&s.reason)
                    )
                })
                .collect();
            text.push_str(&format!(
                "<details><summary>{}</summary>\n{}</details>\n",
                markup(&words),
                table("", &heads(&["value", "op", "reason"], 3), &rows)
            ));
        }
        let tool = format!(
            "{} {}, schema {}",
            report.tool.name, report.tool.version, report.schema
        );
        let timing = words::timing_words(report).map_or_else(String::new, |words| format!("; {words}"));
        text + &format!(
            "<p class=\"muted\">{}</p>\n",
            markup(&format!("Written by {tool}{timing}"))
        )
    }
}

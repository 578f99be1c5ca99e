//! JUnit XML, for build servers: a test case for each gate, network output, layer, and finding about the whole model.
//!
//! A case fails where a cosine is below the second threshold, an output died, or a finding of severity `error` is about
//! it. Below the first threshold it passes and says so.

use super::escape::markup;
use super::view::figure_of;
use super::words::{self, Mark};
use super::{Finding, GateResult, Layer, Metrics, Options, Report, ReportFormat, Severity, View, figure};

/// The report as JUnit XML.
pub(super) struct Junit;

impl ReportFormat for Junit {
    fn id(&self) -> &'static str {
        "junit"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("xml")
    }
    fn write(&self, report: &Report, options: &Options) -> String {
        let suites = [
            ("gates", report.gates.iter().map(gate_case).collect()),
            ("outputs", output_cases(report, options)),
            ("layers", layer_cases(report, options)),
            ("findings", whole_model_cases(report)),
        ];
        let suites: Vec<(&str, Vec<Case>)> = suites
            .into_iter()
            .filter(|(_, cases)| !cases.is_empty())
            .collect();
        let all: Vec<&Case> = suites.iter().flat_map(|(_, cases)| cases).collect();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" {} time=\"{:.3}\">\n",
            markup(&format!("qloupe {}", words::headline(report))),
            counts(all.iter().copied(), false),
            report.timing.total_seconds,
        );
        for (name, cases) in &suites {
            let head = format!("  <testsuite name=\"{name}\" {}>\n", counts(cases.iter(), true));
            text.push_str(&head);
            for case in cases {
                text.push_str(&case.written(name));
            }
            text.push_str("  </testsuite>\n");
        }
        text + "</testsuites>\n"
    }
}

/// What became of a case.
enum Outcome {
    Passed,
    /// Why there are no numbers.
    Skipped(String),
    /// One line, and a kind for grouping.
    Failed(String, &'static str),
}

/// One test case.
struct Case {
    name: String,
    outcome: Outcome,
    /// What there is to read: in the failure where it failed, in the output of the case otherwise.
    lines: Vec<String>,
}

impl Case {
    fn written(&self, suite: &str) -> String {
        let body = self
            .lines
            .iter()
            .map(|line| markup(line))
            .collect::<Vec<_>>()
            .join("\n");
        let inside = match &self.outcome {
            Outcome::Passed if self.lines.is_empty() => String::new(),
            Outcome::Passed => format!("<system-out>{body}</system-out>"),
            Outcome::Skipped(reason) => format!("<skipped message=\"{}\"/>", markup(reason)),
            Outcome::Failed(message, kind) => {
                format!(
                    "<failure message=\"{}\" type=\"{kind}\">{body}</failure>",
                    markup(message)
                )
            }
        };
        let head = format!(
            "    <testcase name=\"{}\" classname=\"qloupe.{suite}\"",
            markup(&self.name)
        );
        if inside.is_empty() {
            format!("{head}/>\n")
        } else {
            format!("{head}>\n      {inside}\n    </testcase>\n")
        }
    }
}

/// The counts of a suite, or of all of them, which have no skipped ones.
fn counts<'c>(cases: impl Iterator<Item = &'c Case> + Clone, with_skipped: bool) -> String {
    let count = |is: fn(&Outcome) -> bool| cases.clone().filter(|case| is(&case.outcome)).count();
    let n_failed = count(|o| matches!(o, Outcome::Failed(..)));
    let mut text = format!(
        "tests=\"{}\" failures=\"{n_failed}\" errors=\"0\"",
        cases.clone().count()
    );
    if with_skipped {
        let n_skipped = count(|o| matches!(o, Outcome::Skipped(_)));
        text.push_str(&format!(" skipped=\"{n_skipped}\""));
    }
    text
}

fn gate_case(gate: &GateResult) -> Case {
    Case {
        name: gate.gate.clone(),
        outcome: if gate.passed {
            Outcome::Passed
        } else {
            Outcome::Failed(gate.words.clone(), "gate")
        },
        lines: vec![gate.words.clone()],
    }
}

fn output_cases(report: &Report, options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for output in &report.outputs {
        // A finding at a layer of the same name is told there.
        let has_row = report.layers.iter().any(|layer| layer.name == output.name);
        let findings = if has_row {
            Vec::new()
        } else {
            findings_at(report, &output.name)
        };
        let views = |view: View| view.of_output(output);
        let mut case = judged(output.name.clone(), views, &findings, options);
        if output.dead {
            case.died();
        } else if let Some(reason) = &output.reason {
            case.outcome = Outcome::Skipped(reason.clone());
        }
        cases.push(case);
        for slice in &output.slices {
            let name = format!(
                "{} {}",
                output.name,
                words::slice_words(slice, output.shape.len())
            );
            let views = |view: View| view.of(&slice.views, None);
            let mut case = judged(name, views, &[], options);
            if slice.dead {
                case.died();
            }
            cases.push(case);
        }
    }
    cases
}

fn layer_cases(report: &Report, options: &Options) -> Vec<Case> {
    let case = |layer: &Layer| {
        let findings = findings_at(report, &layer.name);
        let mut case = judged(
            layer.name.clone(),
            |view| view.of_layer(layer),
            &findings,
            options,
        );
        let measured = View::ALL.iter().any(|view| view.of_layer(layer).is_some());
        if !measured && matches!(case.outcome, Outcome::Passed) {
            let reason = layer.reason.clone().unwrap_or_else(|| "not measured".to_owned());
            case.outcome = Outcome::Skipped(reason);
        }
        let about = format!("{}, {}", words::node_words(layer), layer.op_type);
        case.lines.splice(0..0, (!case.lines.is_empty()).then_some(about));
        case
    };
    report.layers.iter().map(case).collect()
}

/// Findings that no case of a layer or an output tells.
fn whole_model_cases(report: &Report) -> Vec<Case> {
    let is_told = |finding: &&Finding| {
        let place = finding.layer.as_deref();
        let layers = report.layers.iter().map(|l| l.name.as_str());
        let outputs = report.outputs.iter().map(|o| o.name.as_str());
        layers.chain(outputs).any(|name| Some(name) == place)
    };
    let case = |finding: &Finding| Case {
        name: format!(
            "{}: {}",
            finding.id,
            finding.layer.as_deref().unwrap_or("whole model")
        ),
        outcome: match finding.severity {
            Severity::Error => Outcome::Failed(finding.cause.clone(), "finding"),
            Severity::Warning | Severity::Info => Outcome::Passed,
        },
        lines: finding_lines(finding),
    };
    report.findings.iter().filter(|f| !is_told(f)).map(case).collect()
}

/// The findings about a value, the most severe first.
fn findings_at<'r>(report: &'r Report, name: &str) -> Vec<&'r Finding> {
    let mut found: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|f| f.layer.as_deref() == Some(name))
        .collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

fn finding_lines(finding: &Finding) -> Vec<String> {
    vec![
        format!("{}: {}: {}", finding.severity.name(), finding.id, finding.cause),
        finding.evidence.clone(),
        format!("fix: {}", finding.fix),
    ]
}

/// The views whose cosine judges a place: `alone` and `rescued` are read elsewhere.
const JUDGED: [View; 6] = [
    View::Entire,
    View::Tensor,
    View::Local,
    View::RuntimeEntire,
    View::RuntimeSimulator,
    View::RuntimeLocal,
];

/// A place judged by its cosines and by the findings about it.
fn judged<'r>(
    name: String,
    metrics_of: impl Fn(View) -> Option<&'r Metrics>,
    findings: &[&Finding],
    options: &Options,
) -> Case {
    let mut worst: Option<(View, f64)> = None;
    let mut mark = Mark::Good;
    let mut figures = Vec::new();
    for view in JUDGED {
        let Some(metrics) = metrics_of(view) else { continue };
        let cosine = figure_of(metrics, "cosine").unwrap_or(f64::NAN);
        let own = Mark::of(metrics, &options.thresholds);
        mark = mark.max(own);
        if own != Mark::Good && worst.is_none_or(|(_, least)| cosine.is_nan() || cosine < least) {
            worst = Some((view, cosine));
        }
        let sqnr_db = figure_of(metrics, "sqnr_db")
            .map_or_else(String::new, |db| format!(", sqnr {} dB", figure::decibels(db)));
        figures.push(format!(
            "{}: cosine {}{}{sqnr_db}",
            view.id(),
            figure::cosine(cosine),
            own.sign()
        ));
    }
    let limit = if mark == Mark::Wrong {
        options.thresholds.wrong
    } else {
        options.thresholds.slight
    };
    let message = worst.map(|(view, cosine)| {
        format!(
            "{} cosine is {}, expected at least {limit}",
            view.id(),
            figure::cosine(cosine)
        )
    });
    let error = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    let outcome = match (mark, &message, error) {
        (Mark::Wrong, Some(message), _) => Outcome::Failed(message.clone(), "threshold"),
        (_, _, Some(finding)) => Outcome::Failed(finding.cause.clone(), "finding"),
        _ => Outcome::Passed,
    };
    let mut lines = Vec::new();
    if mark != Mark::Good || !findings.is_empty() {
        lines.extend(message.filter(|_| mark == Mark::Slight));
        lines.extend(figures);
    }
    lines.extend(findings.first().iter().flat_map(|finding| finding_lines(finding)));
    Case { name, outcome, lines }
}

impl Case {
    /// Fails the case for an output that is all zero.
    fn died(&mut self) {
        self.outcome = Outcome::Failed(words::dead_sentence(&self.name), "dead");
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::*;
    use crate::report::sample::{on_device, sample};

    fn written(report: &Report) -> String {
        Junit.write(report, &Options::default())
    }

    fn with_gates() -> Report {
        let mut report = sample();
        for gate in ["local.cosine=0.9", "sqnr_db=20"] {
            let outcome = report.gate(&gate.parse().unwrap()).unwrap();
            report.gates.push(outcome.result());
        }
        report.findings.push(Finding {
            id: "few_samples".to_owned(),
            severity: Severity::Error,
            layer: None,
            cause: "calibrated on nothing".to_owned(),
            evidence: "0 samples".to_owned(),
            fix: "add some".to_owned(),
            ..Finding::default()
        });
        report
    }

    #[test]
    fn the_sample_is_written() {
        insta::assert_snapshot!(written(&with_gates()));
    }

    /// What the schema that build servers share allows: elements, their attributes, and their children in this order.
    struct Allowed {
        element: &'static str,
        required: &'static [&'static str],
        optional: &'static [&'static str],
        children: &'static [&'static str],
    }

    const SCHEMA: [Allowed; 6] = [
        Allowed {
            element: "testsuites",
            required: &[],
            optional: &["name", "time", "tests", "failures", "disabled", "errors"],
            children: &["testsuite"],
        },
        Allowed {
            element: "testsuite",
            required: &["name", "tests"],
            optional: &[
                "failures",
                "errors",
                "time",
                "disabled",
                "skipped",
                "timestamp",
                "hostname",
                "id",
                "package",
            ],
            children: &["properties", "testcase", "system-out", "system-err"],
        },
        Allowed {
            element: "testcase",
            required: &["name", "classname"],
            optional: &["assertions", "time", "status"],
            children: &["skipped", "error", "failure", "system-out", "system-err"],
        },
        Allowed {
            element: "skipped",
            required: &[],
            optional: &["message", "type"],
            children: &[],
        },
        Allowed {
            element: "failure",
            required: &[],
            optional: &["message", "type"],
            children: &[],
        },
        Allowed {
            element: "system-out",
            required: &[],
            optional: &[],
            children: &[],
        },
    ];

    fn validate(node: Node<'_, '_>) {
        let name = node.tag_name().name();
        let allowed = SCHEMA.iter().find(|a| a.element == name);
        let allowed = allowed.unwrap_or_else(|| panic!("unknown element {name}"));
        for attribute in node.attributes() {
            let known = [allowed.required, allowed.optional].concat();
            assert!(known.contains(&attribute.name()), "{name} {}", attribute.name());
        }
        for required in allowed.required {
            assert!(node.has_attribute(*required), "{name} lacks {required}");
        }
        let children: Vec<_> = node.children().filter(Node::is_element).collect();
        let order = children.iter().map(|child| {
            let name = child.tag_name().name();
            allowed.children.iter().position(|c| *c == name)
        });
        let order: Vec<usize> = order
            .map(|at| at.expect("an element that is allowed here"))
            .collect();
        assert!(order.is_sorted(), "{name}: {order:?}");
        children.into_iter().for_each(validate);
    }

    fn number(node: Node<'_, '_>, attribute: &str) -> usize {
        node.attribute(attribute).unwrap().parse().unwrap()
    }

    #[test]
    fn it_has_the_structure_that_build_servers_read() {
        let mut hostile = with_gates();
        let name = "a\"b<c>&'d\u{1}\u{fffe}]]>\n\u{1F980}";
        hostile.layers[2].name = name.to_owned();
        hostile.layers[1].reason = Some(name.to_owned());
        hostile.findings[0].evidence = name.to_owned();
        hostile.model.file = name.to_owned();
        for report in [sample(), on_device(), with_gates(), hostile, Report::default()] {
            let text = written(&report);
            let document = Document::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let root = document.root_element();
            assert_eq!(root.tag_name().name(), "testsuites");
            validate(root);
            let suites: Vec<_> = root.children().filter(Node::is_element).collect();
            for (counted, element) in [
                ("tests", "testcase"),
                ("failures", "failure"),
                ("skipped", "skipped"),
            ] {
                for suite in &suites {
                    let n = suite.descendants().filter(|n| n.has_tag_name(element)).count();
                    assert_eq!(number(*suite, counted), n, "{counted}");
                }
                if counted != "skipped" {
                    let sum: usize = suites.iter().map(|suite| number(*suite, counted)).sum();
                    assert_eq!(number(root, counted), sum, "{counted}");
                }
            }
        }
    }

    #[test]
    fn a_case_fails_for_a_threshold_a_death_an_error_or_a_gate() {
        let text = written(&with_gates());
        let document = Document::parse(&text).unwrap();
        let failed = |name: &str| {
            let case = document
                .descendants()
                .find(|n| n.has_tag_name("testcase") && n.attribute("name") == Some(name));
            let case = case.unwrap_or_else(|| panic!("no case {name}"));
            let failure = case.children().find(|n| n.has_tag_name("failure"));
            failure.map(|f| (f.attribute("type").unwrap(), f.attribute("message").unwrap()))
        };
        assert_eq!(failed("local.cosine=0.9"), None);
        assert_eq!(failed("sqnr_db=20").unwrap().0, "gate");
        assert_eq!(failed("output0 [:, 4:22, :] scores").unwrap().0, "dead");
        assert_eq!(
            failed("/model.22/Sigmoid_output_0"),
            Some(("threshold", "entire cosine is 0.90648, expected at least 0.98"))
        );
        assert_eq!(failed("/model.1/conv/Conv_output_0"), None);
        assert_eq!(
            failed("few_samples: whole model"),
            Some(("finding", "calibrated on nothing"))
        );
        // Its cosine is 0.9997: the finding fails it.
        let concat = document
            .descendants()
            .filter(|n| n.attribute("name") == Some("output0"));
        let kinds: Vec<_> = concat
            .map(|case| {
                let failure = case.children().find(|n| n.has_tag_name("failure"));
                (
                    case.attribute("classname").unwrap(),
                    failure.and_then(|f| f.attribute("type")),
                )
            })
            .collect();
        assert_eq!(
            kinds,
            [("qloupe.outputs", None), ("qloupe.layers", Some("finding"))]
        );
    }
}

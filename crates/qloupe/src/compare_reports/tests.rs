//! Reports whose differences are known.

use super::*;
use crate::metrics::Comparison;
use crate::report::sample::sample;
use crate::report::{Finding, Severity};

/// Metrics of an error at a right angle to a reference of length 1.
fn metrics(error: f32) -> Metrics {
    let mut comparison = Comparison::new();
    comparison.observe(&[1.0, 0.0], &[1.0, error], None).unwrap();
    comparison.finish()
}

fn compared(a: &Report, b: &Report) -> ReportComparison {
    ReportComparison::new(("a.json", a), ("b.json", b))
}

/// The sample after its Concat was cut off and its worst layer was raised to float16.
fn repaired() -> Report {
    let mut report = sample();
    report.samples.n = 20;
    report.target = "onnxruntime".to_owned();
    let scores = &mut report.outputs[0].slices[1];
    scores.dead = false;
    scores.views.entire = metrics(0.1);
    report.outputs[0].views.entire = metrics(0.02);
    let raised = report
        .layers
        .iter_mut()
        .find(|l| l.name.contains("cv3.0.2"))
        .unwrap();
    raised.dtype = "float16".to_owned();
    raised.scale.clear();
    raised.zero_point.clear();
    raised.views.entire = metrics(0.05);
    raised.views.local = metrics(0.0);
    let rescaled = report
        .layers
        .iter_mut()
        .find(|l| l.name.contains("model.1/"))
        .unwrap();
    rescaled.scale[0] *= 2.0;
    rescaled.range.as_mut().unwrap().max *= 2.0;
    rescaled.zero_point[0] += 3;
    rescaled.views.local = metrics(0.09);
    report.findings.remove(0);
    report.findings[0].severity = Severity::Info;
    report.findings.push(Finding {
        id: "saturated".to_owned(),
        severity: Severity::Error,
        layer: Some("images".to_owned()),
        cause: "the input is clipped".to_owned(),
        evidence: "3% of elements".to_owned(),
        fix: "calibrate on more samples".to_owned(),
        ..Finding::default()
    });
    let renamed = report
        .layers
        .iter_mut()
        .find(|l| l.name.contains("Mul_2"))
        .unwrap();
    renamed.name = "/model.22/Mul_3_output_0".to_owned();
    report
}

const TABLE: TableOptions = TableOptions {
    colour: false,
    width: 100,
    all: false,
    quiet: false,
};

#[test]
fn a_report_is_as_itself() {
    let report = sample();
    let same = compared(&report, &report);
    let nothing = (
        same.differences.is_empty(),
        same.findings.is_empty(),
        same.settings.is_empty(),
        same.only_a.is_empty() && same.only_b.is_empty(),
    );
    assert_eq!(nothing, (true, true, true, true), "{same:?}");
    assert!(
        same.layers
            .iter()
            .chain(&same.outputs)
            .all(|moved| !moved.is_moved())
    );
    assert!(same.regression(0.0).unwrap().passed);
    assert_eq!(
        (same.outputs.len(), same.layers.len()),
        (3, sample().layers.len())
    );
}

#[test]
fn the_largest_movement_comes_first() {
    let moved = compared(&sample(), &repaired());
    let scores = &moved.outputs[0];
    assert_eq!(
        (scores.name.as_str(), scores.dead),
        ("output0 [:, 4:22, :] scores", (true, false))
    );
    assert!(
        (scores.change_db(View::Entire).unwrap() - 20.0).abs() < 1e-3,
        "{scores:?}"
    );
    let raised = &moved.layers[0];
    assert!(raised.name.contains("cv3.0.2"), "{raised:?}");
    assert_eq!(raised.change_db(View::Local), Some(f64::INFINITY), "exact now");
    assert!(moved.layers.windows(2).all(|p| p[0].size_db() >= p[1].size_db()));
    let what: Vec<_> = moved.differences.iter().map(|d| d.what).collect();
    assert_eq!(what, ["samples", "target"]);
}

#[test]
fn findings_and_settings_say_what_became_of_them() {
    let moved = compared(&sample(), &repaired());
    let found: Vec<_> = moved
        .findings
        .iter()
        .map(|f| (f.finding.id.as_str(), f.state))
        .collect();
    let expected = [
        ("saturated", FindingState::New),
        ("concat_range", FindingState::Gone),
        ("weight_range", FindingState::Was(Severity::Warning)),
    ];
    assert_eq!(found, expected);
    let words = |idx: usize| -> Vec<(Setting, &str)> {
        let changes = moved.settings[idx].changes.iter();
        changes.map(|c| (c.setting, c.words.as_str())).collect()
    };
    assert_eq!(words(0)[0], (Setting::Dtype, "int8 -> float16"));
    assert_eq!(words(0)[1].0, Setting::Scale);
    assert!(words(0)[1].1.ends_with(" -> none"), "{:?}", words(0));
    assert!(words(1)[0].1.ends_with("(x2.000)"), "{:?}", words(1));
    assert_eq!(words(1)[2].1, "-58.4000..52.8000 -> -58.4000..105.6000");
    assert_eq!(moved.settings.len(), 2);
    let mut fused = sample();
    fused.layers[3].reason = Some("fused into \"x\"".to_owned());
    fused.layers[3].scale.clear();
    fused.layers[4].scale[0] *= 1.0 + f32::EPSILON;
    let moved = compared(&sample(), &fused);
    assert_eq!(
        moved.settings.len(),
        1,
        "a last bit is no change: {:?}",
        moved.settings
    );
    assert_eq!(moved.settings[0].changes[0].words, "measured -> fused into \"x\"");
    assert_eq!(moved.settings[0].changes.len(), 1);
}

#[test]
fn a_place_of_one_report_gets_the_nearest_of_the_other() {
    let moved = compared(&sample(), &repaired());
    let place = |name: &str, nearest: &str| Unmatched {
        name: name.to_owned(),
        is_output: false,
        nearest: Some(nearest.to_owned()),
    };
    let (old, new) = ("/model.22/Mul_2_output_0", "/model.22/Mul_3_output_0");
    assert_eq!(moved.only_a, [place(old, new)]);
    assert_eq!(moved.only_b, [place(new, old)]);
}

#[test]
fn the_gate_looks_at_the_worst_output_and_at_those_that_are_gone() {
    let (good, bad) = (repaired(), sample());
    let better = compared(&bad, &good).regression(0.0).unwrap();
    assert!(better.passed, "{better:?}");
    let worse = compared(&good, &bad);
    let failed = worse.regression(19.9).unwrap();
    assert_eq!(
        (failed.passed, failed.words.as_str()),
        (
            false,
            "regression gate failed: the worst change of entire sqnr_db is -20.00 dB, from 20.00 to 0.00, at output \
             output0 [:, 4:22, :] scores, expected at most 19.9 dB less"
        )
    );
    assert!(worse.regression(20.1).unwrap().passed);
    let mut cut = sample();
    let mut gone = cut.outputs[0].clone();
    gone.name = "scores".to_owned();
    cut.outputs.push(gone);
    let failed = compared(&cut, &bad).regression(99.0).unwrap();
    assert_eq!(
        (failed.passed, failed.words.as_str()),
        (
            false,
            "regression gate failed: output \"scores\" is in a.json only"
        )
    );
    let mut empty = sample();
    empty.outputs.clear();
    assert_eq!(
        compared(&empty, &bad).regression(1.0).unwrap_err().to_string(),
        "b.json: no network output of both reports has sqnr_db in view entire, expected at least one"
    );
}

#[test]
fn nan_is_worse_than_every_number() {
    let moved = |a, b| {
        ViewMove {
            view: View::Entire,
            a,
            b,
        }
        .change_db()
    };
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let cases = [
        ((nan, nan), 0.0),
        ((nan, 3.0), inf),
        ((3.0, nan), -inf),
        ((inf, inf), 0.0),
        ((inf, 3.0), -inf),
        ((-inf, 3.0), inf),
        ((1.0, 3.0), 2.0),
    ];
    for ((a, b), expected) in cases {
        assert!(
            moved(a, b).total_cmp(&expected).is_eq(),
            "{a} {b}: {}",
            moved(a, b)
        );
    }
}

#[test]
fn the_tables_are_written() {
    insta::assert_snapshot!(compared(&sample(), &repaired()).to_text(TABLE));
    let coloured = TableOptions {
        colour: true,
        ..TABLE
    };
    let text = compared(&sample(), &repaired()).to_text(coloured);
    for part in [
        "\x1b[32m+20.0\x1b[0m",
        "\x1b[32mrevived",
        "\x1b[31mnew: error saturated",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn long_tables_are_cut_unless_all_is_wanted() {
    let (mut a, mut b) = (sample(), sample());
    for idx in 0..30_u16 {
        for (report, error) in [(&mut a, 0.1), (&mut b, 0.2 + f32::from(idx))] {
            let mut layer = report.layers[3].clone();
            layer.name = format!("layer{idx}");
            layer.views.entire = metrics(error);
            report.layers.push(layer);
        }
    }
    let comparison = compared(&a, &b);
    let text = comparison.to_text(TABLE);
    assert!(
        text.contains("  10 more that moved less (--all shows them)\n"),
        "{text}"
    );
    assert!(
        text.contains("  layer29 ") && !text.contains("  layer3 "),
        "{text}"
    );
    let all = comparison.to_text(TableOptions { all: true, ..TABLE });
    assert!(all.contains("  layer3 ") && !all.contains("--all"), "{all}");
    for line in text.lines() {
        assert!(crate::report::grid::width(line) <= TABLE.width, "{line}");
    }
}

#[test]
fn json_has_every_number() {
    let json = compared(&sample(), &repaired()).to_json();
    assert_eq!(json["schema"], "qloupe-report-comparison/1");
    assert_eq!(json["layers"][0]["sqnr_db"]["local"]["b"], "inf");
    assert_eq!(json["findings"][2]["severity_before"], "warning");
    assert_eq!(json["settings"][0]["changes"]["dtype"], "int8 -> float16");
    assert_eq!(json["only_a"][0]["nearest"], "/model.22/Mul_3_output_0");
    assert_eq!(json["differences"][0]["what"], "samples");
}

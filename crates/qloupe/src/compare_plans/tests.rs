//! The order of rows, their text, and that a row is what a plan of its own gives.

use std::path::Path;

use super::*;
use crate::analyze::{Analysis, ViewSet};
use crate::plan::Method;
use crate::prepare::Crop;
use crate::quantize::quantize;
use crate::recipe::Recipe;
use crate::{calibrate, targets};

fn row(algorithm: &str, output_db: f64, n_hits: usize) -> PlanRow {
    let worst = |name: &str, sqnr_db| Worst {
        name: name.to_owned(),
        slice: (name == "y").then_some((1, 0, 4)),
        sqnr_db,
        cosine: Some(0.5),
    };
    PlanRow {
        algorithm: algorithm.to_owned(),
        method: "channel",
        worst_unit: Some(worst("conv", 10.0)),
        worst_output: Some(worst("y", output_db)),
        accuracy: vec![("top1", Hits { n_hits, n: 10 })],
        seconds: 1.25,
    }
}

fn comparison(rows: Vec<PlanRow>) -> PlanComparison {
    PlanComparison {
        model: "m.onnx".to_owned(),
        target: "rk3588",
        mode: "integer",
        n_samples: 2,
        n_calibration: 3,
        calibration_seconds: 0.5,
        n_labelled: 10,
        float_accuracy: vec![("top1", Hits { n_hits: 9, n: 10 })],
        rows,
        notes: vec!["a note".to_owned()],
    }
}

#[test]
fn answers_count_before_noise_and_nan_is_the_worst() {
    struct Case {
        rows: Vec<PlanRow>,
        best: Option<usize>,
    }
    let cases = [
        Case {
            rows: vec![],
            best: None,
        },
        Case {
            rows: vec![row("a", 30.0, 8), row("b", 20.0, 9)],
            best: Some(1),
        },
        Case {
            rows: vec![row("a", 20.0, 9), row("b", 30.0, 9), row("c", 30.0, 9)],
            best: Some(1),
        },
        Case {
            rows: vec![row("a", f64::NAN, 9), row("b", -3.0, 9)],
            best: Some(1),
        },
    ];
    for Case { rows, best } in cases {
        assert_eq!(comparison(rows.clone()).best(), best, "{rows:?}");
    }
}

#[test]
fn rows_stand_side_by_side() {
    let comparison = comparison(vec![row("min_max", f64::INFINITY, 8), row("auto", 30.0, 9)]);
    let expected = "m.onnx on rk3588: integer
2 samples; calibrated once on 3 in 0.50 s
10 samples with labels; float: top1 0.9000

algorithm  method   worst unit   sqnr  worst output   sqnr    cosine    top1  seconds
min_max    channel  conv        10.00  y [0..4]        inf  0.500000  0.8000     1.25
auto       channel  conv        10.00  y [0..4]      30.00  0.500000  0.9000     1.25

best by top1, then by worst output: auto, channel
worst unit, worst output: entire, sqnr in dB
note: a note
";
    assert_eq!(comparison.to_text(false), expected);
    assert!(comparison.to_text(true).contains("\x1b[1mauto\x1b[0m"));
    assert!(!comparison.to_text(true).contains("\x1b[1mmin_max\x1b[0m"));
    let json = comparison.to_json();
    assert_eq!(json["rows"][0]["worst_output"]["sqnr_db"], "inf");
    assert_eq!(json["rows"][1]["worst_output"]["slice"]["end"], 4);
    assert_eq!(json["rows"][1]["best"], true);
}

#[test]
fn a_row_is_what_a_plan_of_its_own_gives() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let model = testdata.join("models/fmnist_mbv2.onnx");
    let recipe = Recipe::read(&testdata.join("fmnist/recipe.toml")).unwrap();
    let session = Session::open(&model, &Crop::default(), &Default::default(), &recipe).unwrap();
    let calibration = Dataset::open(&testdata.join("fmnist/calib"), &session.inputs).unwrap();
    let samples = Dataset::open(&testdata.join("fmnist/test/t10k_0005.png"), &session.inputs).unwrap();
    let options: Vec<QuantizeOptions> = [
        ("min_max", Method::Channel),
        ("mse", Method::Layer),
        ("auto", Method::Layer),
    ]
    .into_iter()
    .map(|(algorithm, method)| QuantizeOptions {
        algorithm: calibrate::find(algorithm).unwrap(),
        method,
        ..QuantizeOptions::new(targets::find("rk3588").unwrap())
    })
    .collect();
    let examination = Examination {
        samples: &samples,
        mode: Mode::Integer,
        task: None,
    };
    let comparison = compare_plans(&session, &calibration, &options, examination, &|_, _, _| ()).unwrap();
    assert_eq!(comparison.rows.len(), 3);
    for (row, options) in comparison.rows.iter().zip(&options) {
        let own = quantize(&session, &calibration, options, &|_, _, _| ()).unwrap();
        let views = ViewSet::parse(["entire"]).unwrap();
        let mut analysis =
            Analysis::new(&session.network, &own.prepared, &own.plan, Mode::Integer, views).unwrap();
        analysis.observe(&samples.batch(0).unwrap(), None).unwrap();
        let report = analysis.finish();
        assert_eq!(row.worst_unit, worst_unit(&report), "{}", row.algorithm);
        assert_eq!(row.worst_output, worst_output(&report), "{}", row.algorithm);
    }
}

#[test]
fn float_targets_are_refused() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let model = testdata.join("models/fmnist_mbv2.onnx");
    let session = Session::open(&model, &Crop::default(), &Default::default(), &Recipe::default()).unwrap();
    let samples = Dataset::open(&testdata.join("fmnist/calib"), &session.inputs).unwrap();
    let examination = Examination {
        samples: &samples,
        mode: Mode::Integer,
        task: None,
    };
    let options = [QuantizeOptions::new(targets::find("fp16").unwrap())];
    let error = compare_plans(&session, &samples, &options, examination, &|_, _, _| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plans are compared for a target with integer values, expected at least one algorithm for one"
    );
}

//! `analyze` of several algorithms and methods: one table.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// `analyze` of the model of every sandbox; algorithms follow.
const ANALYZE: &str = "analyze model.onnx --target rk3588 --dataset calib --recipe recipe.toml --input test";

fn json(sandbox: &Sandbox, options: &str) -> Value {
    serde_json::from_str(&sandbox.succeed(&format!("{ANALYZE} {options} --json"))).unwrap()
}

#[test]
fn every_method_with_every_algorithm_is_a_row() {
    let sandbox = Sandbox::new();
    let options = "--algorithm min_max,entropy,mse --method layer,channel";
    let comparison = json(&sandbox, options);
    assert_eq!(comparison["schema"], "qloupe-plan-comparison/1");
    let rows = comparison["rows"].as_array().unwrap();
    let names: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["algorithm"].as_str().unwrap(),
                row["method"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = ["min_max", "entropy", "mse"]
        .map(|a| [(a, "layer"), (a, "channel")])
        .concat();
    assert_eq!(names, expected);
    let output_db = |row: &Value| row["worst_output"]["sqnr_db"].as_f64().unwrap();
    let best: Vec<&Value> = rows.iter().filter(|row| row["best"] == true).collect();
    assert_eq!(best.len(), 1);
    assert!(rows.iter().all(|row| output_db(row) <= output_db(best[0])));
    for row in rows {
        assert!(row["worst_unit"]["sqnr_db"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["worst_output"]["cosine"].as_f64().unwrap() > 0.99, "{row}");
        assert_eq!(row["accuracy"], serde_json::json!({}));
    }
    let text = sandbox.succeed(&format!("{ANALYZE} {options}"));
    for part in [
        "\nalgorithm  method   worst unit ",
        "\nmin_max    layer ",
        "\nmse        channel ",
        "\nbest by worst output: ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn a_row_is_what_one_algorithm_gives_alone() {
    let sandbox = Sandbox::new();
    let comparison = json(
        &sandbox,
        "--algorithm min_max,mse --method layer --statistics s.npz",
    );
    assert!(sandbox.path("s.npz").exists(), "the statistics are kept");
    for (idx, algorithm) in ["min_max", "mse"].into_iter().enumerate() {
        let alone = json(
            &sandbox,
            &format!("--algorithm {algorithm} --method layer --views entire"),
        );
        let figure = |metric: &str| alone["outputs"][0]["views"]["entire"][metric]["value"].clone();
        let row = &comparison["rows"][idx];
        assert_eq!(row["worst_output"]["sqnr_db"], figure("sqnr_db"), "{algorithm}");
        assert_eq!(row["worst_output"]["cosine"], figure("cosine"), "{algorithm}");
    }
}

#[test]
fn labels_add_the_task_accuracy() {
    let sandbox = Sandbox::new();
    let comparison = json(&sandbox, "--algorithm min_max,mse --labels test/labels.csv");
    assert_eq!(comparison["n_labelled"], 20);
    assert_eq!(comparison["float_accuracy"]["top1"]["n"], 20);
    for row in comparison["rows"].as_array().unwrap() {
        assert!(row["accuracy"]["top1"]["value"].as_f64().unwrap() > 0.8, "{row}");
    }
}

#[test]
fn each_refusal_has_its_text() {
    let sandbox = Sandbox::new();
    let table = "several of --algorithm or --method ask for a table of plans, expected nothing beside it that is of one plan, got";
    struct Case {
        options: &'static str,
        text: String,
    }
    let cases = [
        Case {
            options: "--algorithm min_max,entropie",
            text: "unknown algorithm \"entropie\", did you mean \"entropy\"? expected one of auto, entropy, min_max, \
                   moving_average, mse, octav, percentile"
                .to_owned(),
        },
        Case {
            options: "--method layer,channels",
            text: "unknown method \"channels\", did you mean \"channel\"? expected one of block, channel, layer".to_owned(),
        },
        Case {
            options: "--algorithm min_max,mse --report out.json --fail-under cosine=1",
            text: format!("{table} --report, --fail-under"),
        },
        Case {
            options: "--method layer,channel --labels test/labels.csv --dump values --until-stable",
            text: format!("{table} --dump, --until-stable"),
        },
    ];
    for Case { options, text } in cases {
        sandbox.refuse(&format!("{ANALYZE} {options}"), &text);
    }
    sandbox.refuse(
        "analyze model.onnx --target fp16 --recipe recipe.toml --input test --algorithm min_max,mse",
        "plans are compared for a target with integer values, expected at least one algorithm for one",
    );
}

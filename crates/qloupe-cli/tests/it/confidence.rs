//! How sure the figures of a report are: worst samples, flips, task accuracy, and when samples are enough.

use qloupe::report::Report;
use serde_json::Value;

use crate::sandbox::{ANALYZE, BUILD, Sandbox};

fn report(sandbox: &Sandbox, arguments: &str) -> Report {
    serde_json::from_str(&sandbox.succeed(&format!("{arguments} --json"))).unwrap()
}

#[test]
fn the_worst_sample_alone_is_as_bad() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} --quiet -o q.onnx"));
    let analyze = "analyze model.onnx --plan q.plan.toml --recipe recipe.toml --input";
    let all = report(&sandbox, &format!("{analyze} test"));
    let output = &all.outputs[0];
    assert_eq!(output.worst_samples.len(), 3);
    let worst = &output.worst_samples[0];
    let figures: Vec<f64> = output.worst_samples.iter().map(|sample| sample.sqnr_db).collect();
    assert!(figures.is_sorted(), "{figures:?}");
    assert!(
        (worst.sqnr_db - output.views.entire["sqnr_db"].min).abs() < f64::EPSILON,
        "{worst:?}"
    );
    let alone = report(&sandbox, &format!("{analyze} {}", worst.file.as_ref().unwrap()));
    let sqnr_db = alone.outputs[0].views.entire["sqnr_db"].value;
    assert!(
        (sqnr_db - worst.sqnr_db).abs() < f64::EPSILON,
        "{sqnr_db} {worst:?}"
    );
    assert!(
        alone.outputs[0].worst_samples.is_empty(),
        "one sample is not the worst of many"
    );
    let layer = all.layers.iter().find(|layer| layer.name == output.name).unwrap();
    assert_eq!(layer.worst_samples[0].index, worst.index);
}

#[test]
fn intervals_hold_the_mean_and_shrink_with_samples() {
    let sandbox = Sandbox::new();
    let width = |report: &Report| {
        let cosine = report.outputs[0].views.entire["cosine"];
        let (low, high) = (cosine.mean_low.unwrap(), cosine.mean_high.unwrap());
        assert!(low < cosine.mean && cosine.mean < high, "{cosine:?}");
        high - low
    };
    let few = ANALYZE.replace("--input test", "--input test/t10k_0005.png test/t10k_0014.png");
    assert!(width(&report(&sandbox, ANALYZE)) < width(&report(&sandbox, &few)));
}

#[test]
fn labels_give_the_accuracy_that_evaluate_gives_and_flips_are_its_flips() {
    let sandbox = Sandbox::new();
    let all = report(&sandbox, &format!("{ANALYZE} --labels test/labels.csv"));
    let accuracy = all.accuracy.unwrap();
    let evaluate = ANALYZE.replace("analyze", "evaluate").replace(
        "--input test",
        "--labels test/labels.csv --only float,int8 --json",
    );
    let expected: Value = serde_json::from_str(&sandbox.succeed(&evaluate)).unwrap();
    assert_eq!((accuracy.task.as_str(), accuracy.scores.len()), ("top1", 2));
    for (score, expected) in accuracy.scores.iter().zip(expected["scores"].as_array().unwrap()) {
        assert_eq!(score.precision, expected["precision"]);
        for (id, share) in &score.metrics {
            assert_eq!(
                serde_json::to_value(share).unwrap(),
                expected["metrics"][id],
                "{id}"
            );
        }
    }
    let agreement = accuracy.scores[1].agreement.unwrap();
    let flips = all.outputs[0].flips.as_ref().unwrap();
    assert_eq!(
        (flips.axis, flips.n, flips.top1),
        (1, 20, (agreement.n - agreement.n_hits) as u64)
    );
    assert!(
        flips.top5.is_some() && flips.mean_score_shift.abs() > 0.0,
        "{flips:?}"
    );
    let text = sandbox.succeed(&format!("{ANALYZE} --labels test/labels.csv"));
    for part in [
        "\ntask top1 on output Identity:0, labels from test/labels.csv\n",
        "\n  int8: top1 0.",
        " of 20 answers changed",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn wrong_labels_are_refused_before_the_work() {
    let sandbox = Sandbox::new();
    sandbox.write("test/wrong.csv", "path,label\nt10k_0005.png,10\n");
    sandbox.refuse(
        &format!("{ANALYZE} --labels none.csv"),
        "\"none.csv\" does not exist",
    );
    let wrong =
        format!("{ANALYZE} --labels test/wrong.csv").replace("--input test ", "--input test/t10k_0005.png ");
    sandbox.refuse(&wrong, "test/wrong.csv:2: wrong class, expected 0 to 9, got 10");
}

#[test]
fn samples_are_enough_when_the_ranking_keeps() {
    let sandbox = Sandbox::new();
    // The same samples over and over: the ranking of a sum of equal samples cannot change.
    let files = ["test/t10k_0005.png"; 12].join(" ");
    let same = ANALYZE.replace("--input test", &format!("--until-stable --input {files}"));
    let used = report(&sandbox, &same);
    assert_eq!(used.samples.n, 5, "the first, and four that change nothing");
    let note =
        "5 of 12 samples used: the 10 worst layers by entire and by local kept their order over the last 4";
    assert!(used.notes.iter().any(|n| n == note), "{:?}", used.notes);
    let some = report(&sandbox, &format!("{ANALYZE} --until-stable"));
    let said = if some.samples.n < 20 {
        format!("{} of 20 samples used: ", some.samples.n)
    } else {
        "samples used".to_owned()
    };
    assert!(some.notes.iter().any(|n| n.contains(&said)), "{:?}", some.notes);
}

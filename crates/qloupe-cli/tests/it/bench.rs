//! `bench`: what it prints and what it refuses. No test looks at a time but to see that it is there.

use serde_json::Value;

use crate::sandbox::{BUILD, Sandbox};

fn json(sandbox: &Sandbox, arguments: &str) -> Value {
    let text = sandbox.succeed(&format!("{arguments} --runs 2 --warmup 0 --json"));
    serde_json::from_str(&text).unwrap()
}

fn keys(json: &Value) -> Vec<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

fn names(json: &Value) -> Vec<&str> {
    let name = |node: &Value| node["name"].as_str().is_some_and(|name| !name.is_empty());
    let nodes = json.as_array().unwrap();
    assert!(nodes.iter().all(name), "{json}");
    nodes.iter().map(|node| node["name"].as_str().unwrap()).collect()
}

#[test]
fn json_has_what_was_asked_for() {
    let sandbox = Sandbox::new();
    let plain = json(&sandbox, "bench model.onnx --threads 1 --batch 3");
    let expected = [
        "batch",
        "inputs",
        "isa",
        "latency_ms",
        "mode",
        "model",
        "peak_bytes",
        "rss_peak_bytes",
        "runs",
        "threads",
    ];
    assert_eq!(keys(&plain), expected);
    assert_eq!((&plain["mode"], &plain["threads"]), (&"float".into(), &1.into()));
    assert_eq!((&plain["batch"], &plain["runs"]), (&3.into(), &2.into()));
    assert_eq!(plain["inputs"][0]["shape"], serde_json::json!([3, 1, 28, 28]));
    assert_eq!(keys(&plain["latency_ms"]), ["median", "min"]);
    assert!(plain["peak_bytes"].as_u64().unwrap() > 3 * 28 * 28 * 4, "{plain}");
    let all = json(&sandbox, "bench model.onnx --profile --observe --units");
    assert_eq!(
        keys(&all["nodes"][0]),
        ["bytes", "kernel", "ms", "name", "op_type", "share"]
    );
    assert!(
        all["observed_ms"]["min"].is_f64() && all["units_ms"].is_f64(),
        "{all}"
    );
    assert_eq!(
        names(&all["nodes"]),
        names(&all["units"]),
        "the same nodes in one order"
    );
    let bytes = |list: &str| {
        all[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["bytes"].clone())
            .collect()
    };
    let (within, alone): (Vec<Value>, Vec<Value>) = (bytes("nodes"), bytes("units"));
    assert_eq!(within, alone, "a node alone gives what it gives within a run");
}

#[test]
fn every_mode_runs() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    for (arguments, mode) in [
        ("bench model.onnx", "float"),
        ("bench model.onnx --mode fp16", "fp16"),
        ("bench model.onnx --plan out.plan.toml", "integer"),
        (
            "bench model.onnx --plan out.plan.toml --mode fake-quant",
            "fake-quant",
        ),
    ] {
        let found = json(&sandbox, &format!("{arguments} --profile --observe --units"));
        assert_eq!(found["mode"], mode, "{arguments}");
        assert_eq!(names(&found["nodes"]), names(&found["units"]), "{arguments}");
    }
}

#[test]
fn inputs_without_pictures_are_made_up_too() {
    let sandbox = Sandbox::of("silero_vad_16k_op15.onnx", "fmnist");
    let found = json(
        &sandbox,
        "bench model.onnx --shape input=2,512 --shape state=2,2,128 --profile --units",
    );
    assert_eq!(names(&found["nodes"]), names(&found["units"]));
    assert_eq!(
        found["inputs"][2],
        serde_json::json!({"name": "sr", "dtype": "int64", "shape": []})
    );
}

#[test]
fn the_table_has_a_row_for_each_thing() {
    let sandbox = Sandbox::new();
    let table = sandbox.succeed("bench model.onnx --runs 1 --threads 1 --profile --observe --units");
    for part in [
        "model.onnx: float, ",
        ", 1 thread, batch 1, 1 run\n",
        "input input  float32  [1, 1, 28, 28], made up",
        "\nrun ",
        "\nrun, every value handed over",
        "\nunits alone, sum",
        "\nmemory at most: activations ",
        "\nwithin a run ",
        "\nalone ",
        "Conv",
    ] {
        assert!(table.contains(part), "{part:?} is missing in\n{table}");
    }
    let table = sandbox.succeed("bench model.onnx --runs 1");
    assert!(
        !table.contains("Conv"),
        "nodes are shown where they are asked for\n{table}"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    struct Case {
        arguments: &'static str,
        text: &'static str,
    }
    let cases = [
        Case {
            arguments: "bench model.onnx --runs 0",
            text: "--runs: expected at least 1, got 0",
        },
        Case {
            arguments: "bench model.onnx --batch 0",
            text: "--batch: expected at least 1, got 0",
        },
        Case {
            arguments: "bench model.onnx --threads 0",
            text: "--threads: expected at least 1, got 0",
        },
        Case {
            arguments: "bench model.onnx --mode flaot",
            text: "unknown mode \"flaot\", did you mean \"float\"? expected one of float, fake-quant, fp16, integer",
        },
        Case {
            arguments: "bench model.onnx --mode integer",
            text: "mode integer needs a plan, expected --mode integer or fake-quant with --plan P.toml",
        },
        Case {
            arguments: "bench model.onnx --plan p.toml --mode float",
            text: "mode float takes no plan, expected --mode integer or fake-quant with --plan P.toml",
        },
        Case {
            arguments: "bench none.onnx",
            text: "none.onnx: cannot be opened: No such file or directory (os error 2)",
        },
        Case {
            arguments: "bench model.onnx --batch 4 --shape input=2,1,28,28",
            text: "--batch 4: input \"input\" has a leading dimension of another size, expected 2",
        },
        Case {
            arguments: "bench model.onnx --shape inptu=1,1,28,28",
            text: "--shape: model.onnx has no input \"inptu\", did you mean \"input\"?",
        },
    ];
    let sandbox = Sandbox::new();
    for Case { arguments, text } in cases {
        sandbox.refuse(arguments, text);
    }
    let open = Sandbox::of("ppocr_v2_cls.onnx", "fmnist");
    open.refuse(
        "bench model.onnx",
        "input \"x\": dimensions of [?, 3, ?, ?] are open, expected --shape x=1,3,H,W",
    );
}

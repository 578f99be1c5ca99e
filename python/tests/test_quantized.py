"""Quantized models: built, run, edited, written, read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TESTDATA

import qloupe

TEST = TESTDATA / "fmnist" / "test"


def test_int8_answers_as_float_does(model, quantized):
    golden = model.infer(TEST)["Identity:0"]
    for mode in ("integer", "fake-quant"):
        test = quantized.infer(TEST, mode=mode)["Identity:0"]
        assert not np.array_equal(test, golden)
        assert (test.argmax(1) == golden.argmax(1)).mean() >= 0.9


def test_a_plan_is_a_list_of_values(quantized):
    values = {value.name: value for value in quantized.values}
    first = values["input"]
    assert (first.unit, first.precision, first.shared_with) == ("Input", "int8", None)
    low, high = first.range
    assert first.scale[0] == pytest.approx((high - low) / 255, rel=1e-6)
    assert quantized.weights[0].dtype == "int8" and len(quantized.weights[0].scale) > 1
    assert quantized.target == "rk3588" and quantized.algorithm == "min_max" and quantized.method == "channel"
    assert quantized.board_inputs[0]["dtype"] == "int8"
    assert 'target = "rk3588"' in quantized.plan_text
    assert "int" in repr(quantized) and "<table>" in quantized._repr_html_()


def test_an_edit_gives_another_one(quantized):
    name = next(value.name for value in quantized.values if value.unit.startswith("Conv"))
    raised = quantized.with_precisions({name: "fp16"})

    def precision_of(plan):
        return next(value.precision for value in plan.values if value.name == name)

    assert (precision_of(quantized), precision_of(raised)) == ("int8", "fp16")
    assert raised.with_precisions({name: "int8"}).plan_text == quantized.plan_text
    before, after = (plan.analyze(TEST / "t10k_0005.png", costs=False)[name] for plan in (quantized, raised))
    assert after.metric("sqnr_db", "local") > before.metric("sqnr_db", "local") + 10


def test_a_range_is_set(quantized):
    changed = quantized.with_ranges({"input": (-1.0, 254.0)})
    value = next(value for value in changed.values if value.name == "input")
    assert (value.scale, value.zero_point, value.range) == ([1.0], [-127], (-1.0, 254.0))


def test_what_was_saved_is_read_back(model, quantized, tmp_path):
    plan = quantized.save(tmp_path / "model.int8.onnx")
    assert plan.name == "model.int8.plan.toml"
    read = model.read_plan(plan)
    assert read.plan_text == quantized.plan_text
    picture = TEST / "t10k_0014.png"
    assert np.array_equal(read.infer(picture)["Identity:0"], quantized.infer(picture)["Identity:0"])
    written = qloupe.load_quantized(tmp_path / "model.int8.onnx", original=model.path, recipe=TESTDATA / "fmnist" / "recipe.toml")
    outputs = written.infer(TEST)["Identity:0"]
    assert np.allclose(outputs, quantized.infer(TEST)["Identity:0"], atol=0.5)


def test_another_tools_model_is_analyzed():
    stored = qloupe.load_quantized(TESTDATA / "quantized" / "ort_qdq_u8s8_channel.onnx")
    images = np.load(TESTDATA / "quantized" / "images.npz")
    name = stored.model.inputs[0].name
    array = images[images.files[0]][:2].astype(np.float32)
    report = stored.analyze({name: array}, costs=False)
    assert any("own operators" in note for note in report.notes)
    assert report.outputs[0].metric("cosine") > 0.9


def test_fp16_needs_no_samples_and_takes_some(model):
    plain = model.build(precision="fp16")
    mixed = model.build(TESTDATA / "fmnist" / "calib", precision="fp16")
    for half in (plain, mixed):
        assert half.target == "fp16"
        report = half.analyze(TEST / "t10k_0005.png", mode="fake-quant", costs=False)
        assert report.outputs[0].metric("cosine") > 0.9999
    assert any("dB" in note for note in mixed.notes)


def test_exports_say_what_they_wrote(quantized, tmp_path):
    written = quantized.export("rknn-script", tmp_path / "convert", dataset=TESTDATA / "fmnist" / "calib")
    assert written["n_samples"] == 20
    assert (tmp_path / "convert" / "convert.py").is_file()
    assert quantized.export("qdq", tmp_path / "q.onnx")["files"] == [str(tmp_path / "q.onnx")]


def test_evaluation_counts_right_answers(model, quantized):
    evaluation = model.evaluate(TEST / "labels.csv", quantized=quantized)
    assert evaluation.metric("top1", "float") >= 0.8
    assert evaluation.metric("agreement", "int8") >= 0.9
    assert evaluation.metric("top1", "int4") is None
    assert "top1" in str(evaluation)


def test_algorithms_are_compared(model):
    comparison = model.compare(
        TESTDATA / "fmnist" / "calib",
        TEST / "t10k_0005.png",
        target="onnxruntime",
        algorithms=["min_max", "mse"],
        methods=["layer", "channel"],
        optimization_level=0,
    )
    assert [(row["algorithm"], row["method"]) for row in comparison.rows] == [
        ("min_max", "layer"),
        ("min_max", "channel"),
        ("mse", "layer"),
        ("mse", "channel"),
    ]
    assert "min_max" in str(comparison)


def test_statistics_are_kept_and_ranges_taken(model, tmp_path):
    options = {"target": "rk3588", "optimization_level": 0, "statistics": tmp_path / "seen.npz"}
    first = model.build(TESTDATA / "fmnist" / "calib", algorithm="mse", **options)
    again = model.build(TESTDATA / "fmnist" / "calib", algorithm="mse", **options)
    assert (tmp_path / "seen.npz").is_file() and first.plan_text == again.plan_text
    cache = tmp_path / "ranges.json"
    cache.write_text(json.dumps({"input": [-3.0, 5.0]}))
    taken = model.build(TESTDATA / "fmnist" / "calib", target="rk3588", algorithm="min_max", optimization_level=0, ranges=cache)
    assert taken.values[0].range == (-3.0, 5.0)


def test_values_behind_a_report(quantized):
    name = next(value.name for value in quantized.values if value.unit.startswith("Conv"))
    golden, test = quantized.layer_values(TEST / "t10k_0005.png", [name])[name]
    assert golden.shape == test.shape and golden.dtype == np.float32
    assert 0 < np.abs(golden - test).max() < np.abs(golden).max()
    with pytest.raises(qloupe.Error, match='layer "nothing" has no values'):
        quantized.layer_values(TEST / "t10k_0005.png", ["nothing"])


def test_a_bench_of_integers(quantized):
    timing = quantized.bench(n_runs=2, n_warmup=1)
    assert timing.data["mode"] == "integer" and timing.median_ms > 0

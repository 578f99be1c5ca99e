"""What units do to the network outputs, what is known of a layer, and what moved between two reports."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TESTDATA

import qloupe
from qloupe import errors

TEST = TESTDATA / "fmnist" / "test"
PICTURES = [TEST / "t10k_0005.png", TEST / "t10k_0014.png"]


@pytest.fixture(scope="module")
def full(quantized):
    """An analysis as it is without any choice."""
    return quantized.analyze(PICTURES, costs=False)


def test_the_default_views_are_those_of_the_command_line(full):
    units = [layer for layer in full.layers if layer.effect is not None]
    assert len(units) > 10
    for layer in units:
        assert set(layer.views) == {"entire", "local"}
        assert set(layer.alone) == set(layer.rescued) == {"Identity:0"}
        assert layer.effect.is_exact and layer.effect.estimated_noise is None
        assert layer.flips["Identity:0"].n == len(PICTURES), "one answer for each picture"


def test_effects_are_what_they_say(full):
    (output,) = full.outputs
    units = [layer for layer in full.layers if layer.effect is not None]
    assert sum(layer.effect.share for layer in units) == pytest.approx(1.0)
    for layer in units:
        gain = layer.rescued["Identity:0"]["sqnr_db"] - output.metric("sqnr_db")
        assert layer.effect.gain_db == pytest.approx(gain, abs=1.0), "rescued is fake-quant, entire is integer"
        noise = 10 ** (-layer.alone["Identity:0"]["sqnr_db"] / 10)
        assert layer.effect.noise == pytest.approx(noise, rel=1e-3), "of the only output, relative to its energy"
    shares = [layer.effect.share for layer in full.largest_effects(4)]
    assert shares == sorted(shares, reverse=True) and shares[0] == max(layer.effect.share for layer in units)


def test_without_effects_there_is_no_ranking_by_them(report):
    with pytest.raises(errors.OptionsError, match="expected one with the views alone and rescued"):
        report.largest_effects()


def test_estimates_say_so(quantized):
    estimated = quantized.analyze(PICTURES, views=("alone",), depth="estimated", costs=False)
    effects = [layer.effect for layer in estimated.layers if layer.effect is not None]
    assert any(not effect.is_exact for effect in effects)
    assert all(effect.estimated_noise is not None for effect in effects)
    with pytest.raises(errors.UnknownChoiceError, match='unknown depth "deep"'):
        quantized.analyze(PICTURES, depth="deep")
    with pytest.raises(errors.OptionsError, match="n_effect_samples: expected at least 1 sample, got 0"):
        quantized.analyze(PICTURES, n_effect_samples=0)


def test_causes_add_up(full):
    layers = [layer for layer in full.layers if layer.causes]
    assert layers
    for layer in layers:
        own = [cause for cause in layer.causes if cause.source != "inherited"]
        assert sum(cause.share for cause in own) == pytest.approx(1.0, abs=0.02), layer.name


def test_intervals_hold_the_mean(full):
    layer = next(layer for layer in full.layers if layer.interval("cosine") is not None)
    low, high = layer.interval("cosine")
    assert low <= layer.data["views"]["entire"]["cosine"]["mean"] <= high
    assert layer.interval("nonsense") is None and layer.interval("cosine", "tensor") is None


def test_analyses_stop_when_they_are_stable(quantized):
    pictures = sorted(TEST.glob("*.png")) * 4
    stable = quantized.analyze(pictures, views=("entire", "local"), until_stable=True, costs=False)
    assert any("samples used" in note for note in stable.notes)
    assert stable.data["samples"]["n"] <= len(pictures)


def test_labels_bring_accuracy_into_the_report(quantized):
    labelled = quantized.analyze(TEST, views=("entire",), labels=TEST / "labels.csv", costs=False)
    accuracy = labelled.data["accuracy"]
    assert accuracy["task"] == "top1" and [score["precision"] for score in accuracy["scores"]] == ["float", "int8"]
    assert accuracy["scores"][0]["metrics"]["top1"]["n"] == len(list(TEST.glob("*.png")))
    with pytest.raises(errors.SampleError):
        quantized.analyze(np.zeros((1, 1, 28, 28), np.float32), labels=TEST / "labels.csv")


def test_worst_samples_have_files(full):
    assert {sample["file"] for sample in full.data["outputs"][0]["worst_samples"]} == {str(picture) for picture in PICTURES}


def test_a_layer_is_explained(full):
    layer = full.largest_effects(1)[0]
    story = full.explain(layer.name)
    assert layer.name in story.paragraphs[0] and str(story) == "\n\n".join(story.paragraphs)
    assert f"Alone it makes {100 * layer.effect.share:.1f}% of the noise" in str(story)
    assert full.explain(layer.node).paragraphs == story.paragraphs
    assert story._repr_html_().count("<p>") == len(story.paragraphs)
    with pytest.raises(errors.OptionsError, match='has no layer "Identity:1", did you mean "Identity:0"'):
        full.explain("Identity:1")


def test_a_notebook_shows_effects(full, report):
    effect = full.largest_effects(1)[0].effect
    assert f"<td>{100 * effect.share:.1f}</td><td>{effect.gain_db:+.2f}</td>" in full._repr_html_()
    assert "share of the noise" not in report._repr_html_()


def test_pandas_has_columns_for_effects(full):
    pytest.importorskip("pandas")
    frame = full.to_pandas()
    layer = full.largest_effects(1)[0]
    row = frame.loc[layer.name]
    assert row["effect.share"] == layer.effect.share and row["effect.gain_db"] == layer.effect.gain_db
    assert row["alone.Identity:0.sqnr_db"] == layer.alone["Identity:0"]["sqnr_db"]
    assert row["rescued.Identity:0.cosine"] == layer.rescued["Identity:0"]["cosine"]
    assert row["cause"] == layer.causes[0].source


def test_all_formats_of_reports_are_written(full, tmp_path):
    for extension in ("html", "json", "csv", "md", "txt", "xml"):
        full.save(tmp_path / f"report.{extension}")
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "<testsuite" in (tmp_path / "report.xml").read_text()
    back = qloupe.load_report(tmp_path / "report.json")
    for layer in full.layers:
        again = back[layer.name]
        assert (again.effect is None) == (layer.effect is None)
        if layer.effect is not None:
            figures = [(effect.share, effect.noise, effect.gain_db) for effect in (again.effect, layer.effect)]
            assert figures[0] == pytest.approx(figures[1], rel=1e-12) and again.effect.is_exact == layer.effect.is_exact
        assert [cause.source for cause in again.causes] == [cause.source for cause in layer.causes]


def test_the_worst_by_a_metric_that_is_good_near_zero(report):
    numbers = [abs(layer.metric("mean_error")) for layer in report.worst(5, metric="mean_error")]
    assert numbers == sorted(numbers, reverse=True)
    with pytest.raises(errors.OptionsError, match='unknown metric "cosinus"'):
        report.worst(metric="cosinus")


def test_what_moved_is_what_the_command_line_tells(full, quantized, tmp_path, monkeypatch):
    name = full.worst(1, view="local")[0].name
    after = quantized.with_precisions({name: "fp16"}).analyze(PICTURES, costs=False)
    comparison = full.compare(after)
    moved = comparison.change_db(name, "local")
    assert moved == pytest.approx(after[name].metric("sqnr_db", "local") - full[name].metric("sqnr_db", "local"))
    assert any(setting["layer"] == name for setting in comparison.settings)
    assert comparison.change_db("nothing") is None
    assert comparison.regression(100.0)[0] is True
    assert after.compare(full).regression(0.0)[0] is (full.outputs[0].metric("sqnr_db") >= after.outputs[0].metric("sqnr_db"))
    with pytest.raises(errors.OptionsError, match="that is not below 0"):
        comparison.regression(-1.0)
    assert name in str(comparison) and "before" in str(comparison)
    assert len(comparison.to_text(all=True)) >= len(str(comparison))
    monkeypatch.chdir(tmp_path)
    full.save("a.json")
    after.save("b.json")
    import subprocess
    import sys

    command = [sys.executable, "-m", "qloupe._command_line", "compare", "a.json", "b.json", "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours = full.compare(after, names=("a.json", "b.json")).data
    for key in ("layers", "outputs", "settings"):
        assert [row.get("name", row.get("layer")) for row in ours[key]] == [row.get("name", row.get("layer")) for row in printed[key]]


def test_a_comparison_as_a_frame(full, report):
    pytest.importorskip("pandas")
    frame = full.compare(report).to_pandas()
    name = report.worst(1)[0].name
    assert frame.loc[name, "entire.after"] == report[name].metric("sqnr_db")
    assert frame.loc[name, "entire.change"] == pytest.approx(0.0, abs=1e-9), "the same analysis twice"


def test_files_that_are_no_reports(tmp_path):
    (tmp_path / "r.json").write_text('{"schema": "qloupe-evaluation/1"}')
    with pytest.raises(errors.FileError, match='wrong schema, expected "qloupe-report/1"') as raised:
        qloupe.load_report(tmp_path / "r.json")
    assert raised.value.file == str(tmp_path / "r.json") and "Report.save" in raised.value.help

"""Reports: data, texts, tables, HTML, plots."""

from __future__ import annotations

import json

import pytest
from conftest import TESTDATA

import qloupe


def test_layers_have_numbers_or_a_reason(report):
    assert report.layers[0].name == "input" and report.layers[0].op_type == "Input"
    for layer in report.layers:
        assert bool(layer.views) != bool(layer.reason), layer.name
    measured = next(layer for layer in report.layers if layer.node and layer.views)
    assert set(measured.views) == {"entire", "local", "tensor"}
    assert measured.metric("cosine", "local") == measured.data["views"]["local"]["cosine"]["value"]
    assert measured.metric("nonsense") is None
    assert report[measured.name] is measured
    with pytest.raises(KeyError):
        report["nothing"]


def test_the_worst_come_first(report):
    numbers = [layer.metric("sqnr_db") for layer in report.worst(4)]
    assert numbers == sorted(numbers)
    distances = [layer.metric("max_abs") for layer in report.worst(4, metric="max_abs")]
    assert distances == sorted(distances, reverse=True)


def test_outputs_findings_and_notes(report):
    (output,) = report.outputs
    assert output.name == "Identity:0" and not output.dead and output.metric("cosine") > 0.99
    assert all(finding.severity in ("error", "warning", "info") for finding in report.findings)
    assert any("simulator" in note for note in report.notes)


def test_texts_are_those_of_the_command_line(report, tmp_path):
    assert "Identity:0" in str(report)
    txt = report.to_text("txt")
    assert "simulator_error" in txt and "entire" in txt and "single" in txt
    assert "per_layer" in report.to_text("txt", txt_style="1.3")
    for name in ("a.json", "a.csv", "a.md", "a.txt"):
        report.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 500
    with pytest.raises(qloupe.errors.OptionsError, match='"a.table": the extension tells the format, expected one of csv, '):
        report.save("a.table")
    back = qloupe.load_report(tmp_path / "a.json")
    assert [layer.name for layer in back.layers] == [layer.name for layer in report.layers]
    for layer in report.layers:
        for view, metrics in layer.views.items():
            assert back[layer.name].views[view] == pytest.approx(metrics, rel=1e-12)
    assert json.loads(report.to_json()) == report.data


def test_gates_judge(report):
    passed, sentence = report.gate("cosine=0.9")
    assert passed and sentence.startswith("accuracy gate passed")
    assert report.gate("local.sqnr_db=200")[0] is False


def test_reports_are_compared(report, quantized):
    name = report.worst(1, view="local")[0].name
    other = quantized.with_precisions({name: "fp16"}).analyze(
        [TESTDATA / "fmnist" / "test" / f"t10k_{i:04}.png" for i in (5, 14)], views=("local",), costs=False
    )
    first = report.compare(other).layers[0]
    assert first["name"] == name and first["sqnr_db"]["local"]["b"] > first["sqnr_db"]["local"]["a"]


def test_html_escapes_and_marks(report):
    from qloupe.html import report_html

    text = report._repr_html_()
    assert text == report_html(report) and "<table>" in text and "Identity:0" in text
    data = json.loads(report.to_json())
    data["layers"][1]["name"] = "<script>alert(1)</script>"
    data["layers"][1]["views"]["entire"]["cosine"]["value"] = 0.5
    from qloupe import _qloupe

    text = qloupe.Report(_qloupe.Report.parse(json.dumps(data), "x"))._repr_html_()
    assert "<script>" not in text and "&lt;script&gt;" in text and "#f8d0d0" in text


def test_pandas_gets_a_row_for_each_layer(report):
    pytest.importorskip("pandas")
    frame = report.to_pandas()
    assert len(frame) == len(report.layers)
    name = report.worst(1)[0].name
    assert frame.loc[name, "entire.sqnr_db"] == report[name].metric("sqnr_db")


def test_plots_draw_what_was_measured(report, quantized):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from qloupe import plots

    axes = report.plot(metric="cosine")
    (entire, local) = axes.get_lines()
    measured = [layer for layer in report.layers if layer.metric("cosine") is not None]
    assert len(entire.get_xdata()) == len(measured) and len(local.get_xdata()) > 0
    name = next(value.name for value in quantized.values if value.unit.startswith("Conv"))
    picture = TESTDATA / "fmnist" / "test" / "t10k_0005.png"
    assert len(plots.histograms(quantized, picture, name).patches) == 2
    channels = report[name].shape[1]
    assert len(plots.per_channel(quantized, picture, name).patches) == channels

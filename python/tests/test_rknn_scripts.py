"""The classic scripts of the vendor's users: unchanged but for the import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MEAN, STD

import qloupe

SCRIPTS = Path(__file__).parent / "scripts"


def run(name: str, folder: Path) -> str:
    """Runs a script in the folder; what it printed."""
    text = (SCRIPTS / f"{name}.py").read_text().replace("from rknn.api import RKNN", "from qloupe.rknn import RKNN")
    (folder / f"{name}.py").write_text(text)
    done = subprocess.run([sys.executable, f"{name}.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def rows_of(table: str):
    """The rows of the vendor's table: operator, layer, numbers."""
    pattern = re.compile(r"^\[(\w+)\] (\S+) +(\d\.\d{5}) \| (\d+\.\d{5}) +(\d\.\d{5}) \| (\d+\.\d{5})", re.M)
    return [(op, name, *map(float, numbers)) for op, name, *numbers in pattern.findall(table)]


@pytest.fixture
def pictures(workspace):
    """``image.npy``: the test picture as cv2 gives it, height, width, channels."""
    sample = qloupe.load("model.onnx").samples("test.png")[0]["input"]
    np.save("image.npy", sample[0].transpose(1, 2, 0).astype(np.uint8))
    return workspace


def test_a_int8_and_the_error_of_every_layer(workspace):
    printed = run("int8_analysis", workspace)
    rows = rows_of(printed)
    assert rows[0][:2] == ("Input", "input") and len(rows) > 15
    assert all(0 < entire <= 1 and 0 < single <= 1 for _, _, entire, _, single, _ in rows)
    snapshot = workspace / "snapshot"
    assert rows_of((snapshot / "error_analysis.txt").read_text()) == rows
    files = dict(line.split() for line in (snapshot / "map_name_to_file.txt").read_text().splitlines())
    for op, name, _, euclidean, _, _ in rows:
        golden, simulator = (np.load(snapshot / kind / "npy" / f"{files[name]}.npy") for kind in ("golden", "simulator"))
        distance = np.linalg.norm(golden.astype(np.float64) - simulator)
        assert distance == pytest.approx(euclidean, rel=1e-4, abs=1e-5), (op, name)
    assert not list(snapshot.rglob("*.txt"))[2:] and not (snapshot / ".dump").exists()


def test_b_fp16_is_close_to_float(pictures):
    run("fp16_inference", pictures)
    image = np.load("image.npy").astype(np.float32).transpose(2, 0, 1)[None]
    golden = qloupe.load("model.onnx").infer((image - np.float32(MEAN)) / np.float32(STD))["Identity:0"]
    output = np.load("output_0.npy")
    assert output.dtype == np.float32 and output.shape == golden.shape
    cosine = (output * golden).sum() / np.linalg.norm(output) / np.linalg.norm(golden)
    assert 0.9999 < cosine and not np.array_equal(output, golden)


def test_c_algorithms_and_methods(workspace):
    run("algorithms", workspace)
    tables = {}
    for algorithm in ("normal", "mmse", "kl_divergence"):
        for method in ("layer", "channel"):
            tables[algorithm, method] = rows_of((workspace / f"snapshot_{algorithm}_{method}" / "error_analysis.txt").read_text())
    assert len({len(rows) for rows in tables.values()}) == 1
    assert len({tuple(rows) for rows in tables.values()}) == 6, "each way gives other numbers"
    single = {key: np.mean([row[4] for row in rows]) for key, rows in tables.items()}
    assert single["normal", "channel"] > single["normal", "layer"]


def test_d_a_layer_is_raised_by_hand(workspace):
    run("int8_analysis", workspace)
    before = {row[1]: row for row in rows_of((workspace / "snapshot" / "error_analysis.txt").read_text())}
    run("hybrid", workspace)
    after = {row[1]: row for row in rows_of((workspace / "snapshot" / "error_analysis.txt").read_text())}
    layer = "functional_1/Add_1:0"
    assert after[layer][5] < 0.8 * before[layer][5], "its output is not rounded any more"
    assert {path.name for path in workspace.glob("model.*")} >= {"model.data", "model.model", "model.quantization.cfg"}
    text = (workspace / "model.quantization.cfg").read_text()
    assert text.startswith("custom_quantize_layers:\n    functional_1/Add_1:0: float16\nquantize_parameters:\n    input:\n        qtype: asym\n")


def test_e_layers_are_proposed(workspace):
    printed = run("proposal", workspace)
    assert "simulator_error" in printed
    assert (workspace / "model.quantization.cfg").read_text().startswith("custom_quantize_layers")
    assert rows_of((workspace / "snapshot" / "error_analysis.txt").read_text())

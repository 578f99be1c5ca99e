"""The small models of the repository, each test in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import qloupe

ROOT = Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "testdata"
MEAN, STD = 72.93, 90.015


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``model.onnx``, ``recipe.toml``, ``dataset.txt``, ``calib/``, ``test/`` and ``test.png``; it is the
    current one."""
    shutil.copy(TESTDATA / "models" / "fmnist_mbv2.onnx", tmp_path / "model.onnx")
    shutil.copytree(TESTDATA / "fmnist", tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "test" / "t10k_0005.png", tmp_path / "test.png")
    pictures = sorted((tmp_path / "calib").glob("*.png"))
    (tmp_path / "dataset.txt").write_text("".join(f"calib/{picture.name}\n" for picture in pictures))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def model() -> qloupe.Model:
    """The float model with its recipe."""
    return qloupe.load(TESTDATA / "models" / "fmnist_mbv2.onnx", recipe=TESTDATA / "fmnist" / "recipe.toml")


@pytest.fixture(scope="session")
def quantized(model: qloupe.Model) -> qloupe.Quantized:
    """The model in int8, without the passes that take time."""
    return model.build(TESTDATA / "fmnist" / "calib", target="rk3588", algorithm="min_max", optimization_level=1)


@pytest.fixture(scope="session")
def report(quantized: qloupe.Quantized) -> qloupe.Report:
    """Its analysis on two images."""
    test = TESTDATA / "fmnist" / "test"
    return quantized.analyze([test / "t10k_0005.png", test / "t10k_0014.png"], views=("entire", "local", "tensor"))

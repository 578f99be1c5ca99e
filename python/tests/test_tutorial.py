"""Every snippet of the tutorial and every cell of the notebook runs."""

from __future__ import annotations

import json
import re

import pytest
from conftest import ROOT

TUTORIAL = ROOT / "docs" / "tutorial"
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that looks like the root of the repository and may be written to."""
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snippets(name):
    found = SNIPPET.findall((TUTORIAL / name).read_text(encoding="utf-8"))
    assert found
    return found


def run(codes):
    names = {}
    for code in codes:
        exec(compile(code, "snippet", "exec"), names)  # noqa: S102
    return names


@pytest.mark.parametrize("name", ["troubleshooting", "migration"])
def test_snippets_run_and_are_the_same_in_both_languages(root, name, capsys):
    english = snippets(f"{name}.md")
    assert english == snippets(f"{name}.zh-CN.md")
    names = run(english)
    assert names["report"].layers
    assert "Conv" in capsys.readouterr().out


def test_the_notebook_runs(root):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    matplotlib.use("Agg")
    notebook = json.loads((TUTORIAL / "troubleshooting.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    codes = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    names = run(codes)
    assert "<table>" in names["report"]._repr_html_()


def test_the_migration_table_names_every_method():
    from qloupe.rknn import RKNN

    methods = [name for name in dir(RKNN) if not name.startswith("_") and callable(getattr(RKNN, name))]
    for language in ("", ".zh-CN"):
        text = (TUTORIAL / f"migration{language}.md").read_text(encoding="utf-8")
        missing = [name for name in methods if name.replace("hybrid_quantization_step2", "`step2`") not in text and f"`{name}" not in text]
        assert missing == [], missing

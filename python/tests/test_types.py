"""The types: mypy on the package, and the stub of the extension module against the module itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("mypy")


def run(folder, *arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed():
    run(ROOT / "python", "mypy", "--config-file", "../pyproject.toml")


def test_the_stub_is_that_of_the_module(tmp_path):
    """In another folder, so that the installed package is compared and not its sources."""
    run(tmp_path, "mypy.stubtest", "qloupe._qloupe")

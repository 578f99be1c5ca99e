"""The types: mypy on the package, and the stub of the extension module against the module itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("mypy")


def mypy(*arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT / "python", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed():
    mypy("mypy", "--config-file", "../pyproject.toml")


def test_the_stub_is_that_of_the_module():
    mypy("mypy.stubtest", "qloupe._qloupe")

"""The console script: the same program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from conftest import TESTDATA

SCRIPT = Path(sys.executable).parent / "qloupe"


def run(*arguments):
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_results_and_exit_statuses(workspace):
    done = run("--version")
    assert done.returncode == 0 and done.stdout.startswith("qloupe ")
    analyze = ["analyze", "model.onnx", "--target", "rk3588", "--dataset", "calib", "--recipe", "recipe.toml", "--algorithm"]
    analyze += ["min_max", "--optimization-level", "1", "--input", "test.png"]
    done = run(*analyze)
    assert done.returncode == 0 and "network outputs" in done.stdout
    assert run(*analyze, "--fail-under", "sqnr_db=200").returncode == 1
    done = run("analyze", "nothing.onnx", "--target", "rk3588", "--input", "test.png")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert run("no-such-command").returncode == 2


def test_it_says_what_the_program_says(workspace):
    """The same lines as `python -m qloupe`-less users see: the package and the script are one program."""
    code = "import sys; from qloupe._command_line import main; sys.argv[1:] = ['inspect', 'model.onnx', '--json']; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == run("inspect", "model.onnx", "--json").stdout


def test_a_closed_pipe_is_no_error():
    shell = shutil.which("bash")
    model = TESTDATA / "models" / "fmnist_mbv2.onnx"
    command = f"set -o pipefail; '{SCRIPT}' inspect '{model}' --json | head -c 1"
    done = subprocess.run([shell, "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""

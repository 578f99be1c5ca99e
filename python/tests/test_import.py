"""What an import brings with it."""

from __future__ import annotations

import subprocess
import sys

#: Packages that only a call may import.
LATE = ("pandas", "matplotlib", "IPython", "torch", "onnx", "tensorflow", "tf2onnx", "rknn", "asyncio", "importlib.metadata")


def test_nothing_is_imported_that_no_call_needs():
    code = "import sys, qloupe, qloupe.rknn; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "numpy" in imported and not imported & set(LATE)


def test_everything_that_is_promised_is_there():
    import qloupe

    assert all(hasattr(qloupe, name) for name in qloupe.__all__)

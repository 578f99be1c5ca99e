"""The virtual environment of a benchmark: it is made from PyPI once, and the script runs itself there."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def enter_venv(folder: Path, packages: list[str]) -> None:
    """Runs this script in the virtual environment of a folder, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    if Path(sys.prefix).resolve() != folder.resolve():
        os.execv(python, [str(python), *sys.argv])

"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingPackageError


def require(module: str, package: str, purpose: str) -> Any:
    """The module, or one sentence that says what to install for the purpose."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs the package {package}, expected it to be installed, got: {error}",
            help=f"pip install {package}",
            package=package,
        ) from None

"""The exceptions of qloupe: one base, a class for each kind of thing that can be wrong, its data as attributes."""

from __future__ import annotations

import sys
from typing import Any, ClassVar, List, Optional


class Error(Exception):
    """Anything that keeps qloupe from giving an answer. The text says what is wrong, where, and what was expected."""

    kind: ClassVar[str] = "error"
    #: One action to take, where there is one.
    help: Optional[str]

    def __init__(self, message: str, *, help: Optional[str] = None, **data: Any) -> None:
        super().__init__(message)
        self.help = help
        for name, value in data.items():
            setattr(self, name, value)
        if help is not None and sys.version_info >= (3, 11):
            self.add_note(f"help: {help}")


class UnknownChoiceError(Error, ValueError):
    """A name that is none of the choices."""

    kind = "unknown_choice"
    #: What the name is of: ``target``, ``algorithm``, ``method``.
    what: str
    #: What was asked for.
    name: str
    #: What there is.
    choices: List[str]
    #: The nearest choice.
    nearest: Optional[str]


class OptionsError(Error, ValueError):
    """Arguments that do not fit together or do not fit the model."""

    kind = "options"


class ModelError(Error):
    """A model that cannot be read or has no meaning."""

    kind = "model"
    #: The model file, where it is known.
    file: Optional[str] = None
    #: The stored tensor that is at fault.
    value: Optional[str] = None


class QuantizedModelError(ModelError):
    """A model that is quantized already, where a float one is expected."""

    kind = "quantized_model"


class UnsupportedOperatorsError(ModelError):
    """Operators that qloupe does not have: all of them."""

    kind = "unsupported_operators"
    #: All of them.
    operators: List[str]


class RunError(Error):
    """A run that failed."""

    kind = "run"
    file: Optional[str] = None
    #: The node that failed.
    node: Optional[str] = None
    #: Its operator.
    op_type: Optional[str] = None
    #: The input that does not fit.
    value: Optional[str] = None


class InterruptedRunError(RunError):
    """A run that was ended because another one in this process was interrupted."""

    kind = "interrupted"


class NotFiniteError(RunError):
    """A value of the float model that is NaN or infinite."""

    kind = "not_finite"
    value: Optional[str] = None
    #: ``sample 3``.
    sample: str
    #: How many elements.
    count: int


class SampleError(Error):
    """Samples that are missing, unreadable, or do not fit the inputs."""

    kind = "sample"


class RecipeError(Error, ValueError):
    """A recipe that is malformed or does not fit the model."""

    kind = "recipe"
    #: The key that is at fault, ``input.images.mean``.
    key: Optional[str] = None


class PlanError(Error):
    """A plan that does not fit the model."""

    kind = "plan"
    file: Optional[str] = None


class FileError(Error, OSError):
    """A file that cannot be read or written."""

    kind = "file"
    file: Optional[str] = None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingPackageError(Error, ImportError):
    """An optional package that is not installed."""

    kind = "missing_package"
    #: What ``pip install`` takes.
    package: str


__all__ = [
    "Error",
    "FileError",
    "InterruptedRunError",
    "MissingPackageError",
    "ModelError",
    "NotFiniteError",
    "OptionsError",
    "PlanError",
    "QuantizedModelError",
    "RecipeError",
    "RunError",
    "SampleError",
    "UnknownChoiceError",
    "UnsupportedOperatorsError",
]

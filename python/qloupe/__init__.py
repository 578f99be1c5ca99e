"""Quantize ONNX models and see exactly where accuracy was lost.

>>> import qloupe
>>> model = qloupe.load("model.onnx", recipe="recipe.toml")
>>> quantized = model.build("calib/", target="rk3588")
>>> report = quantized.analyze("test/")
>>> report.worst(3)

Everything that takes time runs without the GIL, shows a bar where somebody sees it, and ends on Ctrl-C. What goes wrong is a
:class:`qloupe.errors.Error`.
"""

from __future__ import annotations

from typing import List as _List
from typing import NamedTuple as _NamedTuple

from . import _qloupe, errors
from .errors import Error
from .fixes import Fixes
from .hybrid import HybridProposal, HybridUnit, Standing
from .model import Input, Model, load, load_quantized
from .printed import Comparison, Evaluation, Inspection, Timing
from .quantized import Quantized, Value, Weight
from .recipe import InputRecipe, Recipe
from .report import Report, ReportComparison, Story, load_report
from .rows import Action, Cause, Effect, Finding, Flips, Layer, Output, Tried
from .samples import Samples


class Algorithm(_NamedTuple):
    """A calibration algorithm."""

    id: str
    title: str
    #: Names that other tools give it.
    aliases: _List[str]


class Target(_NamedTuple):
    """A device or runtime."""

    id: str
    title: str


class Metric(_NamedTuple):
    """A measure of error."""

    id: str
    unit: str
    formula: str
    #: Which values are good: ``higher``, ``lower`` or ``toward_zero``.
    direction: str


class ExportFormat(_NamedTuple):
    """A format that a plan can be written in for another tool."""

    id: str
    title: str
    needs_cfg: bool
    needs_dataset: bool


def algorithms() -> _List[Algorithm]:
    """The calibration algorithms."""
    return [Algorithm(*each) for each in _qloupe.algorithms()]


def targets() -> _List[Target]:
    """The targets."""
    return [Target(*each) for each in _qloupe.targets()]


def metrics() -> _List[Metric]:
    """The error metrics."""
    return [Metric(*each) for each in _qloupe.metrics()]


def export_formats() -> _List[ExportFormat]:
    """The formats of :meth:`Quantized.export`."""
    return [ExportFormat(*each) for each in _qloupe.export_formats()]


def report_formats() -> _List[str]:
    """The formats of :meth:`Report.to_text`."""
    return [format for format, _ in _qloupe.report_formats()]


__version__ = _qloupe.__version__

__all__ = [
    "Action",
    "Algorithm",
    "Cause",
    "Comparison",
    "Effect",
    "Error",
    "Evaluation",
    "ExportFormat",
    "Finding",
    "Flips",
    "Fixes",
    "HybridProposal",
    "HybridUnit",
    "Input",
    "InputRecipe",
    "Inspection",
    "Layer",
    "Metric",
    "Model",
    "Output",
    "Quantized",
    "Recipe",
    "Report",
    "ReportComparison",
    "Samples",
    "Standing",
    "Story",
    "Target",
    "Timing",
    "Tried",
    "Value",
    "Weight",
    "algorithms",
    "errors",
    "export_formats",
    "load",
    "load_quantized",
    "load_report",
    "metrics",
    "report_formats",
    "targets",
]

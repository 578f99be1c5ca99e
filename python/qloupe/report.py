"""The report of an analysis: where accuracy was lost."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import _qloupe
from ._optional import require
from .errors import FileError, OptionsError
from .samples import PathLike

#: Metrics by id.
Metrics = Mapping[str, float]
#: Views by id; ``alone`` and ``rescued`` have no place here, they are by network output.
Views = Mapping[str, Metrics]

#: The views that give one set of metrics for a layer.
VIEWS = ("entire", "local", "tensor")
#: Metrics of which less is better.
_LOWER_IS_BETTER = frozenset(
    ["clipped_fraction", "euclidean", "euclidean_rel", "max_abs", "mean_error", "rmse", "zero_fraction"]
)


@dataclass(frozen=True)
class Layer:
    """One value of the original graph."""

    #: Named as in the ONNX file.
    name: str
    op_type: str
    #: The node that produces it; empty for a network input.
    node: str
    #: What the target stores it in.
    dtype: str
    shape: Tuple[int, ...]
    scale: Tuple[float, ...]
    zero_point: Tuple[int, ...]
    #: The range that was calibrated.
    range: Optional[Tuple[float, float]]
    #: Why there are no numbers.
    reason: Optional[str]
    #: The value whose row stands for this one.
    fused_into: Optional[str]
    views: Views
    #: Everything of the layer, as in report.json.
    data: Mapping[str, Any]

    def metric(self, metric: str = "sqnr_db", view: str = "entire") -> Optional[float]:
        """A number; None where it was not measured."""
        return self.views.get(view, {}).get(metric)


@dataclass(frozen=True)
class Output:
    """A network output, and the parts of it that mean different things."""

    name: str
    shape: Tuple[int, ...]
    #: All of the tested values are 0 and some golden value is not.
    dead: bool
    reason: Optional[str]
    views: Views
    #: Boxes, scores: each judged by itself; entries as in report.json.
    slices: Tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any]

    def metric(self, metric: str = "sqnr_db", view: str = "entire") -> Optional[float]:
        """A number; None where it was not measured."""
        return self.views.get(view, {}).get(metric)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    id: str
    #: ``error``, ``warning`` or ``info``.
    severity: str
    #: The value it is about; None where it is about the whole model.
    layer: Optional[str]
    cause: str
    evidence: str
    fix: str


def number(value: Any) -> float:
    """A number of report.json: NaN and the infinities are strings there."""
    return float(value)


class Report:
    """Where accuracy was lost. Made by :meth:`qloupe.Quantized.analyze` or :func:`load_report`."""

    def __init__(self, handle: _qloupe.Report) -> None:
        self._handle = handle
        #: The report as report.json has it (docs/report.schema.md).
        self.data: Dict[str, Any] = json.loads(handle.to_json())
        #: One row for each float value of a unit, in execution order; network inputs first.
        self.layers: List[Layer] = [_layer(entry) for entry in self.data["layers"]]
        #: The network outputs.
        self.outputs: List[Output] = [_output(entry) for entry in self.data["outputs"]]
        #: What is wrong and what to do, the most severe first.
        self.findings: List[Finding] = [_finding(entry) for entry in self.data["findings"]]
        #: What a reader has to know to judge the numbers.
        self.notes: List[str] = list(self.data["notes"])

    def __repr__(self) -> str:
        n = self.data["samples"]["n"]
        return f"Report({self.data['model']['file']!r}, {self.data['target']}: {len(self.layers)} layers, {n} samples)"

    def __str__(self) -> str:
        return self.to_text("table")

    def _repr_html_(self) -> str:
        from .html import report_html

        return report_html(self)

    def __getitem__(self, name: str) -> Layer:
        """The layer of a name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def worst(self, n: int = 5, *, metric: str = "sqnr_db", view: str = "entire") -> List[Layer]:
        """The layers that are furthest from the float model, the worst first. Network inputs are none."""
        measured = [(layer.metric(metric, view), layer) for layer in self.layers if layer.node]
        known = [(value, layer) for value, layer in measured if value is not None]
        sign = -1.0 if metric in _LOWER_IS_BETTER else 1.0
        return [layer for _, layer in sorted(known, key=lambda pair: sign * pair[0])[:n]]

    def gate(self, limit: str) -> Tuple[bool, str]:
        """Judges by ``[VIEW.]METRIC=X``, as ``--fail-under`` does: whether it passes, and a sentence."""
        return self._handle.gate(limit)

    def compare(self, other: "Report", *, metric: str = "sqnr_db", view: str = "entire") -> "List[Tuple[str, float, float]]":
        """The layers that both reports have: name, this one's number, the other's; the largest changes first."""
        theirs = {layer.name: layer.metric(metric, view) for layer in other.layers}
        rows = []
        for layer in self.layers:
            ours, their = layer.metric(metric, view), theirs.get(layer.name)
            if ours is not None and their is not None:
                rows.append((layer.name, ours, their))
        return sorted(rows, key=lambda row: -abs(row[2] - row[1]) if row[1] != row[2] else 0.0)

    def to_text(
        self,
        format: str = "table",
        *,
        colour: bool = False,
        width: int = 120,
        txt_style: str = "2",
        thresholds: Tuple[float, float] = (0.99, 0.98),
    ) -> str:
        """The report in one of :func:`qloupe.report_formats`."""
        return self._handle.format(format, colour=colour, width=width, txt_style=txt_style, thresholds=thresholds)

    def to_json(self) -> str:
        """The text of report.json."""
        return self._handle.to_json()

    def save(self, path: PathLike, *, txt_style: str = "2") -> None:
        """Writes the report; the extension of the file tells the format: json, csv, md, txt, .."""
        path = Path(path)
        files = {extension: format for format, extension in _qloupe.report_formats() if extension is not None}
        if path.suffix.lstrip(".") not in files:
            raise OptionsError(f'"{path}": the extension tells the format, expected one of {", ".join(files)}')
        text = self.to_text(files[path.suffix.lstrip(".")], txt_style=txt_style)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FileError(f'"{path}" cannot be written: {error}', file=str(path)) from None

    def to_pandas(self) -> Any:
        """A row for each layer: what it is, and a column ``VIEW.METRIC`` for every number."""
        pandas = require("pandas", "pandas", "to_pandas()")
        rows = []
        for layer in self.layers:
            row: Dict[str, Any] = {"name": layer.name, "op_type": layer.op_type, "dtype": layer.dtype}
            row["shape"] = layer.shape
            row["range_min"], row["range_max"] = layer.range if layer.range is not None else (None, None)
            for view, metrics in layer.views.items():
                row.update({f"{view}.{metric}": value for metric, value in metrics.items()})
            row["reason"] = layer.reason
            rows.append(row)
        return pandas.DataFrame(rows).set_index("name")

    def plot(self, **options: Any) -> Any:
        """The error over depth: :func:`qloupe.plots.error_over_depth`."""
        from .plots import error_over_depth

        return error_over_depth(self, **options)


def load_report(path: PathLike) -> Report:
    """Reads a report.json."""
    file = os.fspath(path)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f'"{file}" cannot be read: {error}', file=file) from None
    return Report(_qloupe.Report.parse(text, file))


def _views(entry: Mapping[str, Any]) -> Views:
    views = entry.get("views", {})
    found: Dict[str, Metrics] = {}
    for view in VIEWS:
        if views.get(view):
            found[view] = {metric: number(value["value"]) for metric, value in views[view].items()}
    return found


def _layer(entry: Mapping[str, Any]) -> Layer:
    bounds = entry.get("range")
    return Layer(
        name=entry["name"],
        op_type=entry["op_type"],
        node=entry["node"],
        dtype=entry["dtype"],
        shape=tuple(entry["shape"]),
        scale=tuple(entry["scale"]),
        zero_point=tuple(entry["zero_point"]),
        range=None if bounds is None else (number(bounds["min"]), number(bounds["max"])),
        reason=entry.get("reason"),
        fused_into=entry.get("fused_into"),
        views=_views(entry),
        data=entry,
    )


def _output(entry: Mapping[str, Any]) -> Output:
    return Output(
        name=entry["name"],
        shape=tuple(entry["shape"]),
        dead=entry["dead"],
        reason=entry.get("reason"),
        views=_views(entry),
        slices=tuple(entry.get("slices", ())),
        data=entry,
    )


def _finding(entry: Mapping[str, Any]) -> Finding:
    return Finding(
        id=entry["id"],
        severity=entry["severity"],
        layer=entry.get("layer"),
        cause=entry["cause"],
        evidence=entry["evidence"],
        fix=entry["fix"],
    )

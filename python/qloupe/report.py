"""The report of an analysis: where accuracy was lost."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from . import _qloupe
from ._optional import require
from .errors import FileError, OptionsError
from .printed import Data, Printed
from .rows import Finding, Layer, Output, finding_of, layer_of, number, output_of
from .samples import PathLike

#: Columns of a comparison's tables.
_WIDTH = 120


class Story:
    """What is known of a layer, in plain words. Made by :meth:`Report.explain`."""

    def __init__(self, paragraphs: Sequence[str]) -> None:
        self.paragraphs: List[str] = list(paragraphs)

    def __str__(self) -> str:
        return "\n\n".join(self.paragraphs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>\n{self}"

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in self.paragraphs)


class ReportComparison(Printed):
    """What moved between two reports: outputs, layers, settings, findings. Made by :meth:`Report.compare`."""

    def __init__(self, handle: _qloupe.ReportComparison) -> None:
        data, text = handle.printed(all=False, width=_WIDTH)
        super().__init__(json.loads(data), text)
        self._handle = handle

    def to_text(self, *, all: bool = False, width: int = _WIDTH) -> str:
        """The tables; with ``all`` everything that moved, not only what moved most."""
        return self._handle.printed(all=all, width=width)[1]

    @property
    def layers(self) -> List[Data]:
        """Layers that both have, the largest movement first: ``sqnr_db`` by view, with ``a``, ``b`` and ``change``."""
        return cast(List[Data], self.data["layers"])

    @property
    def outputs(self) -> List[Data]:
        """Network outputs and parts of them that both have, the largest movement first."""
        return cast(List[Data], self.data["outputs"])

    @property
    def settings(self) -> List[Data]:
        """Layers whose precision, scale, zero point or range differ."""
        return cast(List[Data], self.data["settings"])

    @property
    def findings(self) -> List[Data]:
        """Findings that only one has, or that changed their severity."""
        return cast(List[Data], self.data["findings"])

    @property
    def differences(self) -> List[Data]:
        """What was not the same to begin with: samples, target, model, .."""
        return cast(List[Data], self.data["differences"])

    def change_db(self, layer: str, view: str = "entire") -> Optional[float]:
        """How the ``sqnr_db`` of a layer or an output moved, more is better; None where one report lacks it."""
        for moved in [*self.layers, *self.outputs]:
            if moved["name"] == layer and view in moved["sqnr_db"]:
                return number(moved["sqnr_db"][view]["change"])
        return None

    def regression(self, limit_db: float) -> Tuple[bool, str]:
        """Whether no network output, and no part of one, lost more than ``limit_db``, and a sentence."""
        if not limit_db >= 0.0:
            raise OptionsError(f"regression: expected a number of dB that is not below 0, got {limit_db!r}")
        return self._handle.regression(limit_db)

    def to_pandas(self) -> Any:
        """A row for each layer, with columns ``VIEW.before``, ``VIEW.after`` and ``VIEW.change`` in dB."""
        rows = []
        for moved in self.layers:
            row: Dict[str, Any] = {"name": moved["name"], "op_type": moved["op_type"]}
            for view, figures in moved["sqnr_db"].items():
                for column, key in (("before", "a"), ("after", "b"), ("change", "change")):
                    row[f"{view}.{column}"] = number(figures[key])
            rows.append(row)
        return require("pandas", "pandas", "to_pandas()").DataFrame(rows, columns=None if rows else ["name"]).set_index("name")


class Report:
    """Where accuracy was lost. Made by :meth:`qloupe.Quantized.analyze` or :func:`load_report`."""

    def __init__(self, handle: _qloupe.Report) -> None:
        self._handle = handle
        #: The report as report.json has it (docs/report.schema.md).
        self.data: Dict[str, Any] = json.loads(handle.to_json())
        #: One row for each float value of a unit, in execution order; network inputs first.
        self.layers: List[Layer] = [layer_of(entry) for entry in self.data["layers"]]
        #: The network outputs.
        self.outputs: List[Output] = [output_of(entry) for entry in self.data["outputs"]]
        #: What is wrong and what to do, the most severe first.
        self.findings: List[Finding] = [
            finding_of(entry, {output.name for output in self.outputs}) for entry in self.data["findings"]
        ]
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
        badness = _BADNESS[_direction(metric)]
        return [layer for _, layer in sorted(known, key=lambda pair: badness(pair[0]), reverse=True)[:n]]

    def largest_effects(self, n: int = 5) -> List[Layer]:
        """The layers that make most of the noise at the network outputs, each alone; what makes most first.

        Needs the views ``alone`` and ``rescued``.
        """
        known = [(layer.effect.share, layer) for layer in self.layers if layer.effect is not None]
        if not known:
            raise OptionsError("largest_effects: the report has no effects, expected one with the views alone and rescued")
        return [layer for _, layer in sorted(known, key=lambda pair: -pair[0])[:n]]

    def explain(self, layer: str) -> Story:
        """One layer's story in plain words: whose error it is, what it is made of, what it costs, what to do.

        ``layer`` is a value or a node, named as in the ONNX file.
        """
        return Story(self._handle.story(layer))

    def gate(self, limit: str) -> Tuple[bool, str]:
        """Judges by ``[VIEW.]METRIC=X``, as ``--fail-under`` does: whether it passes, and a sentence."""
        return self._handle.gate(limit)

    def compare(self, after: "Report", *, names: Tuple[str, str] = ("before", "after")) -> ReportComparison:
        """What moved between this report and the one after: outputs, layers, settings, findings.

        ``names`` are what the tables call the two.
        """
        return ReportComparison(self._handle.compare(after._handle, names))

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
        """Writes the report; the extension of the file tells the format: html, json, csv, md, txt, xml (JUnit)."""
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
        """A row for each layer: what it is, and a column ``VIEW.METRIC`` for every number.

        What it does to the network outputs is in ``effect.share``, ``effect.noise``, ``effect.gain_db``, ``effect.is_exact``,
        ``alone.OUTPUT.METRIC`` and ``rescued.OUTPUT.METRIC``; ``cause`` is the largest part of its own error.
        """
        pandas = require("pandas", "pandas", "to_pandas()")
        rows = []
        for layer in self.layers:
            row: Dict[str, Any] = {"name": layer.name, "op_type": layer.op_type, "dtype": layer.dtype}
            row["shape"] = layer.shape
            row["range_min"], row["range_max"] = layer.range if layer.range is not None else (None, None)
            for view, metrics in layer.views.items():
                row.update({f"{view}.{metric}": value for metric, value in metrics.items()})
            if layer.effect is not None:
                effect = layer.effect
                row.update({"effect.share": effect.share, "effect.noise": effect.noise, "effect.gain_db": effect.gain_db})
                row["effect.is_exact"] = effect.is_exact
            for view, outputs in (("alone", layer.alone), ("rescued", layer.rescued)):
                for output, metrics in outputs.items():
                    row.update({f"{view}.{output}.{metric}": value for metric, value in metrics.items()})
            if layer.causes:
                row["cause"], row["cause.share"] = layer.causes[0].source, layer.causes[0].share
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


#: How bad a figure is, by the direction in which it is good.
_BADNESS: Dict[str, Callable[[float], float]] = {
    "higher": lambda value: -value,
    "lower": lambda value: value,
    "toward_zero": abs,
}


def _direction(metric: str) -> str:
    known = {id: direction for id, _, _, direction in _qloupe.metrics()}
    if metric not in known:
        raise OptionsError(f'unknown metric "{metric}", expected one of {", ".join(known)}')
    return known[metric]

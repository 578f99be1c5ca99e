"""A report as HTML for a notebook: findings, outputs, layers; everything escaped, no scripts."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, List, Optional

if TYPE_CHECKING:
    from .report import Report
    from .rows import Layer

#: Cosines below which a row is marked, as in tables: slightly inconsistent, wrong.
_YELLOW, _RED = 0.99, 0.98
#: More layers than this are folded away.
_MAX_OPEN_LAYERS = 30


def report_html(report: "Report") -> str:
    """The whole report."""
    parts = [f"<p><b>{html.escape(repr(report))}</b></p>"]
    parts += [
        f"<p><b>{html.escape(f.severity)}</b> {html.escape(f.layer or '')}: {html.escape(f.cause)} "
        f"({html.escape(f.evidence)}). {html.escape(f.fix)}{'' if f.tried is None else f' Tried: {f.tried.gain_db:+.2f} dB.'}</p>"
        for f in report.findings
    ]
    outputs = [
        _row([output.name, str(list(output.shape)), *_figures(output.metric, "entire")], output.metric("cosine"))
        for output in report.outputs
    ]
    parts.append(_table(["network output", "shape", "cosine", "sqnr, dB"], outputs))
    has_effects = any(layer.effect is not None for layer in report.layers)
    rows = [_layer_row(layer, has_effects) for layer in report.layers]
    heads = ["layer", "operator", "dtype", "entire cosine", "sqnr, dB", "local cosine", "sqnr, dB"]
    layers = _table(heads + (["share of the noise, %", "gain, dB"] if has_effects else []), rows)
    opened = " open" if len(rows) <= _MAX_OPEN_LAYERS else ""
    parts.append(f"<details{opened}><summary>{len(rows)} layers</summary>{layers}</details>")
    parts += [f"<p>{html.escape(note)}</p>" for note in report.notes]
    return "\n".join(parts)


def _layer_row(layer: "Layer", has_effects: bool) -> str:
    head = [layer.name, layer.op_type, layer.dtype]
    effect = ["", ""] if has_effects else []
    if layer.effect is not None:
        effect = [f"{100.0 * layer.effect.share:.1f}", f"{layer.effect.gain_db:+.2f}"]
    if not layer.views:
        return _row([*head, layer.reason or "not measured", "", "", "", *effect], None)
    figures = [*_figures(layer.metric, "entire"), *_figures(layer.metric, "local")]
    return _row([*head, *figures, *effect], layer.metric("cosine"))


def _figures(metric: "object", view: str) -> List[str]:
    assert callable(metric)
    cosine, sqnr = metric("cosine", view), metric("sqnr_db", view)
    return ["" if cosine is None else f"{cosine:.5f}", "" if sqnr is None else f"{sqnr:.1f}"]


def _row(cells: List[str], cosine: Optional[float]) -> str:
    style = ""
    if cosine is not None and not cosine >= _YELLOW:
        style = f" style='background:{'#f8d0d0' if not cosine >= _RED else '#f8f0c0'};color:#000'"
    return f"<tr{style}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _table(heads: List[str], rows: List[str]) -> str:
    head = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"

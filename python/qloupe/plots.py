"""Pictures of a report and of the values behind it. They need matplotlib (``pip install qloupe[plots]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Sequence

import numpy as np

from ._optional import require

if TYPE_CHECKING:
    from .quantized import Quantized
    from .report import Report
    from .samples import AnySamples

#: sqnr of a layer without error is infinite; it is drawn at the top.
_TOP_DB = 100.0
_N_BINS = 128


def _axes(axes: Optional[Any]) -> Any:
    if axes is not None:
        return axes
    pyplot = require("matplotlib.pyplot", "matplotlib", "a plot")
    return pyplot.figure(figsize=(10, 4), layout="constrained").add_subplot()


def error_over_depth(
    report: "Report", *, metric: str = "sqnr_db", views: Sequence[str] = ("entire", "local"), axes: Optional[Any] = None
) -> Any:
    """A metric of every layer in execution order: where ``entire`` falls while ``local`` stays high, the error came from before."""
    axes = _axes(axes)
    for view in views:
        places: List[int] = []
        numbers: List[float] = []
        for place, layer in enumerate(report.layers):
            value = layer.metric(metric, view)
            if value is not None:
                places.append(place)
                numbers.append(min(max(value, -_TOP_DB), _TOP_DB) if metric.startswith("sqnr") else value)
        axes.plot(places, numbers, marker=".", label=view)
    axes.set_xlabel("layer")
    axes.set_ylabel(metric)
    axes.set_title(f"{report.data['model']['file']}, {report.data['target']}")
    axes.legend()
    return axes


def histograms(quantized: "Quantized", inputs: "AnySamples", layer: str, *, index: int = 0, axes: Optional[Any] = None) -> Any:
    """How the values of a layer are distributed, in float and under the plan, with the range that was calibrated."""
    axes = _axes(axes)
    golden, test = quantized.layer_values(inputs, [layer], index=index)[layer]
    low, high = float(min(golden.min(), test.min())), float(max(golden.max(), test.max()))
    bins = np.linspace(low, high if high > low else low + 1.0, _N_BINS + 1)
    axes.hist(golden.ravel(), bins=bins, histtype="step", label="float")
    axes.hist(test.ravel(), bins=bins, histtype="step", label="under test")
    bounds = next((value.range for value in quantized.values if value.name == layer), None)
    for bound in bounds or ():
        axes.axvline(bound, linestyle=":", color="grey")
    axes.set_yscale("log")
    axes.set_xlabel(layer)
    axes.set_ylabel("elements")
    axes.legend()
    return axes


def per_channel(quantized: "Quantized", inputs: "AnySamples", layer: str, *, index: int = 0, axes: Optional[Any] = None) -> Any:
    """The range of each channel of a layer and its error: a channel that is much smaller than the others has the most."""
    axes = _axes(axes)
    golden, test = quantized.layer_values(inputs, [layer], index=index)[layer]
    axis = 1 if golden.ndim > 1 else 0
    others = tuple(i for i in range(golden.ndim) if i != axis)
    places = np.arange(golden.shape[axis])
    low, high = golden.min(axis=others), golden.max(axis=others)
    axes.bar(places, high - low, bottom=low, label="range, float", alpha=0.5)
    error = np.sqrt(((golden.astype(np.float64) - test) ** 2).mean(axis=others))
    axes.plot(places, error, ".", color="C3", label="rmse")
    axes.set_xlabel(f"channel of {layer}")
    axes.legend()
    return axes

"""How the engines scale with the batch and the size of the image: a table, and the plot of docs/plots."""

import math

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from engine_models import RESNET50, Model

BATCHES = (1, 2, 4, 8, 16, 32)
PIXELS = (160, 224, 320, 416, 512, 640)
TITLES = {"qloupe": "qloupe", "ort": "ONNX Runtime", "openvino": "OpenVINO"}
COLOURS = {"qloupe": "tab:blue", "ort": "tab:orange", "openvino": "tab:green"}


def measure_scaling(bench, folder):
    """Time per image over the batch, and time over the size of the image, in float32."""
    by_name = {model.name: model for model in bench.models}
    batched = by_name[RESNET50]
    sized = by_name.get("yolov8n_320") or batched
    of_size = lambda side: Model(sized.name, sized.path, sized.input, (3, side, side), 1)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    panel(bench, axes[0], "batch", "ms per image", [(n, batched, n) for n in BATCHES])
    panel(bench, axes[1], "side of the image in pixels", "ms", [(side, of_size(side), 1) for side in PIXELS])
    axes[0].legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "scaling.png", dpi=110)


def panel(bench, axis, x_label, y_label, points):
    """Measures the points (x, model, batch) and draws a line for every engine and number of threads."""
    name, ticks = points[0][1].name, [x for x, _, _ in points]
    for threads in bench.threads:
        lines = {engine: [] for engine in TITLES}
        for x, model, batch in points:
            ms = bench.interleave(bench.engines(model, model.path, threads, True, batch=batch))
            bench.add(f"time over {x_label}", f"{name}, {x}", threads, "ms", ms["qloupe"], ms["ort"], openvino=ms["openvino"])
            for engine, ys in lines.items():
                ys.append(ms[engine] / batch if ms[engine] else math.nan)
        for engine, ys in lines.items():
            label = f"{TITLES[engine]}, {threads} thread{'s' if threads > 1 else ''}"
            style = "-" if threads == 1 else "--"
            axis.plot(ticks, ys, style, marker="o", markersize=4, color=COLOURS[engine], label=label)
    axis.set(title=f"{name}, float32", xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
    axis.set_xticks(ticks, ticks)
    axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5)))
    axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    for minor in (axis.xaxis, axis.yaxis):
        minor.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.grid(True, alpha=0.25)

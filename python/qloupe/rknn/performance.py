"""Figures of this machine and estimates in the place of the board's: ``eval_perf`` and ``eval_memory``."""

from __future__ import annotations

from typing import Dict

from ..quantized import Quantized

#: Bytes of a weight, over those of float32.
_WEIGHT_SHARE = {"fp16": 0.5}
_INT8_SHARE = 0.25


def performance_text(quantized: Quantized) -> str:
    """The time of every layer on this CPU."""
    mode = "fake-quant" if quantized.target == "fp16" else "integer"
    timing = quantized.bench(mode=mode, profile=True, progress=False)
    return f"time on this CPU, not on the NPU: it says nothing of the device\n{timing}"


def memory_figures(quantized: Quantized) -> Dict[str, int]:
    """The vendor's keys: bytes of weights, of activations, of the rest, and their sum. Estimates for the target."""
    inspection = quantized.model.inspect()
    share = _WEIGHT_SHARE.get(quantized.target, _INT8_SHARE)
    weights = int(inspection.data["weight_size_bytes"] * share)
    timing = quantized.bench(mode="fake-quant" if quantized.target == "fp16" else "integer", n_runs=1, n_warmup=0, progress=False)
    internal = timing.peak_bytes
    return {
        "weight_memory": weights,
        "internal_memory": internal,
        "other_memory": 0,
        "total_memory": weights + internal,
    }


def memory_text(figures: Dict[str, int]) -> str:
    """The figures in lines."""
    heads = {"weight_memory": "weights", "internal_memory": "activations", "total_memory": "total"}
    lines = [f"{title:12} {figures[key] / 2**20:9.2f} MiB" for key, title in heads.items()]
    return "\n".join(["estimate for the target, not measured on a device", *lines])

"""Hybrid quantization in two steps: files that a person edits lie between them."""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

from ..model import Model, load
from ..quantized import Quantized
from .cfg import layer_lines
from .log import Log, Refusal

#: What the vendor's files call precisions.
_PRECISIONS = {"float16": "fp16", "float32": "float", "int8": "int8"}


def edited(quantized: Quantized, cfg: Path, log: Log) -> Quantized:
    """The plan with what a person changed in the ``.quantization.cfg``: ranges and layers."""
    named = layer_lines(cfg)
    found = quantized._handle.read_ranges(str(cfg))
    known = [value.name for value in quantized.values]
    for name in named:
        if name in found["unmatched"]:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            help = f", did you mean '{nearest[0]}'?" if nearest else ""
            raise Refusal(f"{cfg}: custom_quantize_layers: '{name}' is no value of the model{help}")
    others = [name for name in found["unmatched"] if name not in named]
    if others:
        log.warn(f"hybrid_quantization_step2: {len(others)} names of {cfg} are of no value of the model: {', '.join(others[:5])}")
    changed = {}
    for value in quantized.values:
        bounds = found["ranges"].get(value.name)
        if bounds is None or value.range is None or value.shared_with is not None or value.precision != "int8":
            continue
        if _differs(bounds, value.range):
            changed[value.name] = bounds
    precisions = _precisions(found["layers"], known, cfg, log)
    quantized = quantized.with_ranges(changed) if changed else quantized
    quantized = quantized.with_precisions(precisions) if precisions else quantized
    log.info(f"hybrid_quantization_step2: {len(changed)} ranges changed, {len(precisions)} layers set")
    return quantized


def _differs(a: "tuple[float, float]", b: "tuple[float, float]") -> bool:
    width = max(abs(b[1] - b[0]), 1e-30)
    return any(abs(x - y) > 1e-6 * width for x, y in zip(a, b))


def _precisions(layers: Dict[str, str], known: "list[str]", cfg: Path, log: Log) -> Dict[str, str]:
    precisions = {}
    for name, dtype in layers.items():
        if dtype == "int16":
            log.once(f"hybrid_quantization_step2: int16 changes nothing on this target, '{name}' stays int8")
            continue
        if dtype not in _PRECISIONS:
            raise Refusal(f"{cfg}: custom_quantize_layers: '{name}': expected float16 or int8, got {dtype!r}")
        if name not in known:
            raise Refusal(f"{cfg}: custom_quantize_layers: '{name}' is a constant, expected the output of a layer")
        precisions[name] = _PRECISIONS[dtype]
    return precisions


def with_plan_text(model: Model, text: str) -> Quantized:
    """The model under a plan whose text is at hand."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return model.read_plan(path)


def between(model: Model, quantized: Quantized, subgraphs: Sequence[Sequence[str]]) -> List[str]:
    """The layers of the subgraphs that ``custom_hybrid`` names by their first input and their last output."""
    found: List[str] = []
    known = {value.name for value in quantized.values}
    for pair in subgraphs:
        if isinstance(pair, str) or len(pair) != 2:
            raise Refusal(f"custom_hybrid: expected pairs of an input and an output tensor, got {pair!r}")
        part = load(model.path, inputs=[pair[0]], outputs=[pair[1]])
        units = part.inspect(quantized.target).data["placement"]["units"]
        found += [unit["output"] for unit in units if unit["output"] in known and unit["output"] not in found]
    return found

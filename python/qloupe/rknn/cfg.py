"""The three files of hybrid quantization, as the vendor names them: ``.model``, ``.data`` and ``.quantization.cfg``.

The ``.quantization.cfg`` has the vendor's form and is edited by hand. The ``.data`` file is JSON with the plan in it, not a
pickle: reading it runs no code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..quantized import Quantized, Value
from .log import Refusal

_LAYERS = "custom_quantize_layers"
_PARAMETERS = "quantize_parameters"
_SCHEMA = "qloupe-rknn-data/1"
#: Longer names are YAML keys of their own kind.
_MAX_PLAIN_KEY = 128


@dataclass(frozen=True)
class Stored:
    """What step 2 needs of step 1."""

    config: Dict[str, Any]
    load: Dict[str, Any]
    dataset: str
    plan: str


def write_data(path: Path, stored: Stored) -> None:
    """Writes the ``.data`` file."""
    path.write_text(json.dumps({"schema": _SCHEMA, **vars(stored)}, indent=1), encoding="utf-8")


def read_data(path: Path) -> Stored:
    """Reads the ``.data`` file."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise Refusal(f"data_input {str(path)!r} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Refusal(
            f"data_input {str(path)!r} is none of qloupe's, expected the file of hybrid_quantization_step1",
            "run step 1 with qloupe.rknn, too: the vendor's file is a Python pickle, which may run any code",
        ) from None
    if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
        raise Refusal(f"data_input {str(path)!r} has another schema, expected {_SCHEMA!r}")
    return Stored(config=data["config"], load=data["load"], dataset=data["dataset"], plan=data["plan"])


def write_cfg(path: Path, quantized: Quantized, layers: Mapping[str, Optional[str]]) -> None:
    """Writes the ``.quantization.cfg``: all values of the plan, and layers to raise, each with a remark."""
    lines = [f"{_LAYERS}:" if layers else f"{_LAYERS}: {{}}"]
    for name, remark in layers.items():
        lines.append(f"    {_key(name)} float16" + (f"    # {remark}" if remark else ""))
    lines.append(f"{_PARAMETERS}:")
    for value in quantized.values:
        lines.extend(_entry(value))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entry(value: Value) -> List[str]:
    bounds = value.range or (None, None)
    fields: List[Tuple[str, List[Any]]] = [
        ("min", [bound for bound in bounds[:1] if bound is not None]),
        ("max", [bound for bound in bounds[1:] if bound is not None]),
        ("scale", value.scale),
        ("zero_point", value.zero_point),
        ("ori_min", [bound for bound in bounds[:1] if bound is not None]),
        ("ori_max", [bound for bound in bounds[1:] if bound is not None]),
    ]
    dtype = {"fp16": "float16", "float": "float32"}.get(value.precision, value.precision)
    lines = [f"    {_key(value.name)}", "        qtype: asym", "        qmethod: layer", f"        dtype: {dtype}"]
    for name, numbers in fields:
        lines.append(f"        {name}:" if numbers else f"        {name}: []")
        lines.extend(f"        -   {number!r}" for number in numbers)
    return lines


def _key(name: str) -> str:
    """A name as a YAML key."""
    plain = all(c.isalnum() or c in "_./-:" for c in name) and name[:1] not in "-:" and not name.endswith(":")
    text = name if plain else "'" + name.replace("'", "''") + "'"
    return f"{text}:" if len(text) <= _MAX_PLAIN_KEY else f"? {text}\n    :"


def layer_lines(path: Path) -> List[str]:
    """The names under ``custom_quantize_layers``, as they are written: for messages."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"model_quantization_cfg {str(path)!r} cannot be read: {error}") from None
    names, inside = [], False
    for line in lines:
        if line and not line[0].isspace():
            inside = line.startswith(_LAYERS)
        elif inside and ":" in line:
            names.append(line.split("#")[0].rsplit(":", 1)[0].strip().strip("'\""))
    return names

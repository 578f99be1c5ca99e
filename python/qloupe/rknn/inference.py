"""What ``RKNN.inference`` takes: arrays as cv2 gives them, in the vendor's layout."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

import qloupe

from ..model import Model
from ..samples import Array
from .config import Config
from .log import Log, Refusal
from .state import per_channel

_FORMATS = ("nhwc", "nchw", "undefined")
_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "bool")


def fed(config: Config, model: Model, inputs: Any, data_format: Any, log: Log) -> Dict[str, Array]:
    """The arrays of a run: transposed, normalized, in the dtype of the model."""
    arrays = _as_list(inputs)
    specs = model.inputs
    if len(arrays) != len(specs):
        names = ", ".join(each.name for each in specs)
        raise Refusal(f"{len(arrays)} inputs, expected {len(specs)}, one for each of {names}")
    formats = _formats(data_format, len(specs))
    return {
        each.name: _prepared(config, position, each, array, format, log)
        for position, (each, array, format) in enumerate(zip(specs, arrays, formats))
    }


def _as_list(inputs: Any) -> List[Array]:
    given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    for array in given:
        if not isinstance(array, np.ndarray):
            raise Refusal(f"inputs: expected a list of numpy arrays, got {type(array).__name__}")
    return list(given)


def _formats(data_format: Any, n: int) -> Sequence[str]:
    given = [data_format or "nhwc"] * n if data_format is None or isinstance(data_format, str) else list(data_format)
    given = given * n if len(given) == 1 else given
    unknown = [each for each in given if each not in _FORMATS]
    if unknown:
        raise Refusal(f"unknown data_format {unknown[0]!r}, expected one of {', '.join(_FORMATS)}")
    if len(given) != n:
        raise Refusal(f"data_format has {len(given)} entries, expected {n}, one for each input")
    return given


def _prepared(config: Config, position: int, each: qloupe.Input, array: Array, format: str, log: Log) -> Array:
    if array.dtype.name not in _DTYPES:
        raise Refusal(f"input '{each.name}': wrong dtype, expected one of {', '.join(_DTYPES)}, got {array.dtype}")
    shape = [1 if size is None else size for size in each.shape]
    if len(shape) == 4 and format != "undefined":
        array = _in_model_layout(each, shape, array, format, log)
    elif list(array.shape) != shape:
        raise Refusal(f"input '{each.name}': wrong shape, expected {shape}, got {list(array.shape)}")
    mean, std, _ = config.of_input(position)
    if not each.dtype.startswith("float"):
        return array.astype(each.dtype)
    real: Array = array.astype(np.float32)
    if mean is not None or std is not None:
        real = (real - per_channel(mean, 0.0, each)) / per_channel(std, 1.0, each)
    return np.ascontiguousarray(real, dtype=each.dtype)


def _in_model_layout(each: qloupe.Input, shape: List[int], array: Array, format: str, log: Log) -> Array:
    if array.ndim == 3:
        log.once(f"inference: input '{each.name}' has 3 dimensions, it is taken for a batch of 1")
        array = array[None]
    own = each.layout or "nchw"
    expected = shape
    if own != format:
        n, a, b, c = shape
        expected = [n, b, c, a] if own == "nchw" else [n, c, a, b]
    if list(array.shape) != expected:
        raise Refusal(
            f"input '{each.name}': wrong shape, expected {expected} as data_format '{format}' says, got {list(array.shape)}",
            None if list(array.shape) != shape else f"inference(.., data_format='{own}') takes this array",
        )
    if own == format:
        return array
    return array.transpose(0, 3, 1, 2) if own == "nchw" else array.transpose(0, 2, 3, 1)

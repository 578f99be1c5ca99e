"""An RKNN object at each of its stages, for tests."""

from __future__ import annotations

from typing import Any

from qloupe.rknn import RKNN

CONFIG = {"mean_values": [[72.93]], "std_values": [[90.015]], "target_platform": "rk3588"}


def configured(**more: Any) -> RKNN:
    """After ``config``."""
    rknn = RKNN()
    assert rknn.config(**{**CONFIG, **more}) == 0
    return rknn


def loaded(**more: Any) -> RKNN:
    """After ``load_onnx``."""
    rknn = configured(**more)
    assert rknn.load_onnx("model.onnx") == 0
    return rknn


def built(**more: Any) -> RKNN:
    """After ``build``."""
    rknn = loaded(**more)
    assert rknn.build(do_quantization=True, dataset="dataset.txt") == 0
    return rknn

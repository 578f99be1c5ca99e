"""The vendor's own package, where it is installed: it alone writes .rknn files. The ranges and precisions of our plan reach it
through its hybrid quantization, and its simulator runs the result beside ours."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np

from .._qloupe import copy_model
from ..quantized import Quantized
from ..samples import Array, Samples
from .config import Config
from .log import Log, Refusal

#: Below this cosine between the two simulators something is wrong with the export, not with the arithmetic.
_MIN_COSINE = 0.9


def is_installed() -> bool:
    """True where ``rknn.api`` can be imported."""
    try:
        return importlib.util.find_spec("rknn.api") is not None
    except (ImportError, ValueError):
        return False


def export(
    quantized: Quantized,
    config: Config,
    load: Dict[str, Any],
    calibration: Optional[Samples],
    arrays: List[List[Array]],
    path: Path,
    log: Log,
) -> None:
    """Compiles with the vendor's package. ``arrays`` are calibration samples before mean and std; without them, fp16."""
    from rknn.api import RKNN as VendorRKNN

    target = path.resolve()
    # Read before the current folder changes.
    first = None if calibration is None else calibration[0]
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder)):
        stem = Path(quantized.model.path).stem
        copy_model(load["model"], f"{stem}.onnx")

        def opened() -> Any:
            vendor = VendorRKNN(verbose=log.verbose)
            vendor.config(**_own(config))
            _require(vendor.load_onnx(f"{stem}.onnx", **{k: v for k, v in load.items() if k != "model"}), "load_onnx")
            return vendor

        if quantized.target == "fp16":
            vendor = opened()
            _require(vendor.build(do_quantization=False), "build")
        else:
            lines = []
            for index, inputs in enumerate(arrays):
                names = [f"{index:04}_{place}.npy" for place in range(len(inputs))]
                for name, array in zip(names, inputs):
                    np.save(name, array)
                lines.append(" ".join(names))
            Path("dataset.txt").write_text("\n".join(lines) + "\n")
            vendor = opened()
            _require(vendor.hybrid_quantization_step1(dataset="dataset.txt", proposal=False), "hybrid_quantization_step1")
            vendor.release()
            cfg = f"{stem}.quantization.cfg"
            quantized.export("rknn", "ours.cfg", cfg=cfg)
            vendor = VendorRKNN(verbose=log.verbose)  # Step 2 refuses the object of step 1.
            vendor.config(**_own(config))
            step2 = vendor.hybrid_quantization_step2(f"{stem}.model", f"{stem}.data", "ours.cfg")
            _require(step2, "hybrid_quantization_step2")
        _require(vendor.export_rknn("out.rknn"), "export_rknn")
        if first is not None and arrays:
            _verify(vendor, quantized, first, arrays[0], log)
        vendor.release()
        shutil.move("out.rknn", target)


def _own(config: Config) -> Dict[str, Any]:
    """What the user gave, with the algorithm whose ranges ours replace."""
    own = dict(config.given)
    own["quantized_algorithm"] = "normal"
    own["quantized_dtype"] = "w8a8"
    own["target_platform"] = config.platform
    return own


def _verify(vendor: Any, quantized: Quantized, first: Dict[str, Array], arrays: List[Array], log: Log) -> None:
    """Runs one sample in both simulators."""
    _require(vendor.init_runtime(), "init_runtime")
    formats = ["nchw"] * len(arrays)
    theirs = vendor.inference(inputs=arrays, data_format=formats)
    mode = "fake-quant" if quantized.target == "fp16" else "integer"
    ours = quantized._handle.infer_arrays(first, mode=mode)
    for (name, our), their in zip(ours.items(), theirs or []):
        a, b = our.astype(np.float64).ravel(), np.asarray(their, np.float64).ravel()
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosine = float(a @ b / norm) if norm else 1.0
        text = f"export_rknn: output '{name}': cosine {cosine:.5f} between the vendor's simulator and this one, one sample"
        (log.warn if cosine < _MIN_COSINE else log.info)(text)


def _require(code: object, what: str) -> None:
    if code not in (0, None):
        raise Refusal(f"the vendor's {what} gave {code}, expected 0")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """The vendor writes into the current folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

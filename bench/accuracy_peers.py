"""The peers of accuracy.py. As a program it quantizes one model with one of them:

    python accuracy_peers.py TOOL ALGORITHM METHOD MODEL SAMPLES.txt OUT.onnx [--transformer]

A further peer is one function and one line in PEERS. One whose package is not installed is left out.
"""

import argparse
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


def samples_of(path: Path) -> list:
    import numpy as np

    return [np.load(path.parent / name) for name in path.read_text().splitlines()]


def input_name(path: Path) -> str:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    return next(value.name for value in graph.input if value.name not in weights)


def at_opset_13(path: Path):
    """The model, raised where it is older: scales per channel need that, and no peer sees to it."""
    import onnx

    model = onnx.load(str(path))
    version = next(opset.version for opset in model.opset_import if not opset.domain)
    return model if version >= 13 else onnx.version_converter.convert_version(model, 13)


class Reader:
    """A CalibrationDataReader over arrays. `set_range` is asked for where samples are collected one by one."""

    def __init__(self, name: str, samples: list):
        self.name, self.samples = name, samples
        self.set_range(0, len(samples))

    def __len__(self) -> int:
        return len(self.samples)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.left: Iterator = iter(self.samples[start_index:end_index])

    def get_next(self) -> dict | None:
        sample = next(self.left, None)
        return None if sample is None else {self.name: sample}


def quantize_onnxruntime(job: argparse.Namespace) -> None:
    """`quant_pre_process`, then `quantize_static`: QDQ, activations uint8, weights int8, all else the tool's defaults.

    Its histograms cannot hold samples of different shapes at once, so those are collected one by one.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {
        "entropy": CalibrationMethod.Entropy,
        "min_max": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
    }
    samples = samples_of(job.samples)
    ragged = len({sample.shape for sample in samples}) > 1
    prepared = job.out.with_suffix(".prepared.onnx")
    onnx.save(at_opset_13(job.model), str(prepared))
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(job.out),
        Reader(input_name(job.model), samples),
        quant_format=QuantFormat.QDQ,
        per_channel=job.method == "channel",
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[job.algorithm],
        extra_options={"CalibStridedMinMax": 1} if ragged else {},
    )
    prepared.unlink()


def quantize_nncf(job: argparse.Namespace) -> None:
    """`nncf.quantize` on ONNX with its defaults, which correct biases."""
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import QuantizationParameters

    name, samples = input_name(job.model), samples_of(job.samples)
    weights = QuantizationParameters(per_channel=job.method == "channel")
    quantized = nncf.quantize(
        at_opset_13(job.model),
        nncf.Dataset([{name: sample} for sample in samples]),
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if job.transformer else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(weights_quantization_params=weights),
    )
    onnx.save(quantized, str(job.out))


@dataclass(frozen=True)
class Peer:
    """A tool, its package, and the algorithms it knows, named as qloupe's where they are the same."""

    tool: str
    package: str
    algorithms: tuple[str, ...]
    quantize: Callable[[argparse.Namespace], None]

    def is_present(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        return importlib.metadata.version(self.package)


PEERS = (
    Peer("nncf", "nncf", ("default",), quantize_nncf),
    Peer("onnxruntime", "onnxruntime", ("min_max", "entropy", "percentile"), quantize_onnxruntime),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=[peer.tool for peer in PEERS])
    parser.add_argument("algorithm")
    parser.add_argument("method", choices=["layer", "channel"])
    for name in ("model", "samples", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--transformer", action="store_true", help="say that the model is a transformer")
    job = parser.parse_args()
    next(peer for peer in PEERS if peer.tool == job.tool).quantize(job)


if __name__ == "__main__":
    main()

"""From other formats to ONNX, through well-kept converters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Sequence

from .._optional import require
from .log import Refusal

#: The opset that converters are asked for: the vendor reads 12 to 19.
OPSET = 17


def from_pytorch(model: str, input_size_list: Sequence[Sequence[int]], output: Path) -> None:
    """A TorchScript file, traced on zeros of the given shapes."""
    torch = require("torch", "torch", "load_pytorch")
    _require_file(model)
    try:
        module = torch.jit.load(model, map_location="cpu").eval()
    except Exception as error:
        raise Refusal(
            f"{model!r} is no TorchScript file, expected what torch.jit.save writes: {_first_line(error)}",
            "torch.jit.save(torch.jit.trace(model.eval(), example), 'MODEL.pt') writes one",
        ) from None
    inputs = tuple(torch.zeros(*shape) for shape in input_size_list)
    names = [f"input{i}" if i else "input" for i in range(len(inputs))]
    try:
        torch.onnx.export(module, inputs, str(output), opset_version=OPSET, input_names=names, dynamo=False)
    except TypeError:  # Releases before 2.5 know no other exporter and no such argument.
        torch.onnx.export(module, inputs, str(output), opset_version=OPSET, input_names=names)
    except Exception as error:
        raise Refusal(
            f"{model!r}: torch.onnx cannot export it: {_first_line(error)}",
            f"torch.onnx.export(model, example, 'MODEL.onnx', opset_version={OPSET}) of the module itself, then load_onnx('MODEL.onnx')",
        ) from None


def from_tflite(model: str, output: Path) -> None:
    """A TFLite file."""
    require("tensorflow", "tensorflow", "load_tflite")
    convert = require("tf2onnx.convert", "tf2onnx", "load_tflite")
    _require_file(model)
    try:
        convert.from_tflite(model, opset=OPSET, output_path=str(output))
    except Exception as error:
        raise _unconverted(model, f"--tflite {model}", error) from None


def from_tensorflow(tf_pb: str, inputs: Sequence[str], outputs: Sequence[str], output: Path) -> None:
    """A frozen graph of TensorFlow 1."""
    tensorflow: Any = require("tensorflow", "tensorflow", "load_tensorflow")
    convert = require("tf2onnx.convert", "tf2onnx", "load_tensorflow")
    _require_file(tf_pb)
    try:
        graph = tensorflow.compat.v1.GraphDef()
        graph.ParseFromString(Path(tf_pb).read_bytes())
        convert.from_graph_def(
            graph,
            input_names=[_port(name) for name in inputs],
            output_names=[_port(name) for name in outputs],
            opset=OPSET,
            output_path=str(output),
        )
    except Exception as error:
        ports = f"--inputs {','.join(map(_port, inputs))} --outputs {','.join(map(_port, outputs))}"
        raise _unconverted(tf_pb, f"--graphdef {tf_pb} {ports}", error) from None


def checked_shapes(input_size_list: Any, what: str) -> List[List[int]]:
    """One shape for each input."""
    wrong = Refusal(f"{what}: input_size_list: expected a shape for each input, such as [[1, 3, 224, 224]], got {input_size_list!r}")
    if not isinstance(input_size_list, (list, tuple)) or not input_size_list:
        raise wrong
    shapes: List[List[int]] = []
    for shape in input_size_list:
        if not isinstance(shape, (list, tuple)) or any(not isinstance(size, int) or size < 1 for size in shape):
            raise wrong
        shapes.append(list(shape))
    return shapes


def _unconverted(model: str, arguments: str, error: Exception) -> Refusal:
    """What tf2onnx says, and the command that converts by hand."""
    return Refusal(
        f"{model!r}: tf2onnx cannot convert it: {_first_line(error)}",
        f"python -m tf2onnx.convert {arguments} --opset {OPSET} --output MODEL.onnx tells more; then load_onnx('MODEL.onnx')",
    )


def _port(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _require_file(path: Optional[str]) -> None:
    if path is None or not Path(path).is_file():
        raise Refusal(f"{path!r} does not exist, expected a model file")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

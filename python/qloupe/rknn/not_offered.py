"""What only the vendor's own package does: each method says so, and what to do instead."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from .answers import answers
from .log import Log, Refusal


class NotOffered:
    """The methods that answer -1."""

    _log: Log

    @answers(-1)
    def load_caffe(self, model: str, blobs: Optional[str] = None, input_name: Optional[str] = None) -> int:
        """Refused: says how to convert the model."""
        raise Refusal(
            "Caffe models are not read, expected ONNX",
            f"pip install caffe2onnx, then caffe2onnx --prototxt {model} --caffemodel {blobs or 'BLOBS'} --onnx MODEL.onnx "
            "and load_onnx('MODEL.onnx')",
        )

    @answers(-1)
    def load_darknet(self, model: str, weight: str) -> int:
        """Refused: says how to convert the model."""
        raise Refusal(
            "Darknet models are not read, expected ONNX",
            f"pip install darknet2any converts {model} and {weight} to ONNX; then load_onnx('MODEL.onnx')",
        )

    @answers(-1)
    def load_rknn(self, path: str) -> int:
        """Refused: a compiled model runs on the device only."""
        raise Refusal(
            f"{path}: a compiled .rknn model runs on the device only, expected the ONNX model it was made from",
            "load_onnx and build simulate it",
        )

    @answers(-1)
    def export_encrypted_rknn_model(
        self, input_model: str, output_model: Optional[str] = None, crypt_level: int = 1
    ) -> int:
        """Refused: only the vendor's package encrypts."""
        raise Refusal("encryption is the vendor's own, expected rknn.api of rknn-toolkit2 to do it")

    @answers(-1)
    def codegen(self, output_path: str, inputs: Optional[Sequence[str]] = None, overwrite: bool = False) -> int:
        """Refused: only the vendor's package writes its C++ project."""
        raise Refusal("the C++ project is the vendor's own, expected rknn.api of rknn-toolkit2 to write it")

    @answers(-1)
    def reg_custom_op(self, custom_op: Any) -> int:
        """Refused: operators are those of ONNX."""
        raise Refusal("custom operators are not supported, expected a model of ONNX operators: cut it with outputs=[..]")

    @answers(-1)
    def optimize_onnx(
        self, model: str, optimized_path: Optional[str] = None, passes_enable: Any = None, inputs_for_dump: Any = None
    ) -> int:
        """Refused: the vendor's rewrites are its own."""
        raise Refusal("the vendor's graph rewrites are its own, expected rknn.api of rknn-toolkit2 to do them")

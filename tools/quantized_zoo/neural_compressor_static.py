"""Quantizes with Intel Neural Compressor 2.6, the last with an ONNX backend of its own.

Usage: python tools/quantized_zoo/neural_compressor_static.py
Needs: neural-compressor==2.6 onnx==1.16.2 onnxruntime==1.18.1 numpy==1.26.4 protobuf==4.25.9 pandas<3 setuptools<80 six
"""
import tempfile

import numpy as np
from neural_compressor import PostTrainingQuantConfig, quantization, set_workspace

from fashion_mnist import FLOAT, ZOO, calibration

# name -> float original, options.
MODELS = {
    "inc_qdq": ("fmnist_mbv2", dict(quant_format="QDQ")),
    "inc_qoperator": ("fmnist_resnet", dict(quant_format="default")),
}


class Images:
    """One batch of 16 after the other, as Neural Compressor asks for: input and label."""

    batch_size = 16

    def __iter__(self):
        return ((batch, 0) for batch in np.split(calibration(), 8))


def main():
    set_workspace(tempfile.mkdtemp())
    for name, (source, options) in MODELS.items():
        config = PostTrainingQuantConfig(approach="static", calibration_sampling_size=[128], **options)
        quantized = quantization.fit(str(FLOAT / f"{source}.onnx"), config, calib_dataloader=Images())
        quantized.save(str(ZOO / f"{name}.onnx"))
        print(f"{name}.onnx: {(ZOO / f'{name}.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()

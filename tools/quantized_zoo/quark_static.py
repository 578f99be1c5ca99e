"""Quantizes with AMD Quark, for its NPU: power-of-two scales, and its own operators.

Usage: python tools/quantized_zoo/quark_static.py
Needs: amd-quark==0.13 torch==2.8.0 onnx==1.22.0 onnxruntime==1.32.0 onnxslim onnxscript numpy
"""
import numpy as np
from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config import Config, get_default_config

from fashion_mnist import FLOAT, ZOO, calibration

# name -> float original, name of the configuration.
MODELS = {
    "quark_xint8": ("fmnist_resnet", "XINT8"),
    "quark_a8w8": ("fmnist_mbv2", "A8W8"),
}


class Images(CalibrationDataReader):
    def __init__(self):
        self.feeds = iter({"input": batch} for batch in np.split(calibration(), 8))

    def get_next(self):
        return next(self.feeds, None)


def main():
    for name, (source, configuration) in MODELS.items():
        out = ZOO / f"{name}.onnx"
        quantizer = ModelQuantizer(Config(global_quant_config=get_default_config(configuration)))
        quantizer.quantize_model(str(FLOAT / f"{source}.onnx"), str(out), Images())
        print(f"{out.name}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

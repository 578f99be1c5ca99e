"""Quantizes with NVIDIA Model Optimizer, for TensorRT.

Usage: python tools/quantized_zoo/model_optimizer_static.py
Needs: nvidia-modelopt[onnx]==0.47.0 onnxruntime==1.24.4 (its GPU build will do) numpy
"""
import shutil, tempfile
from pathlib import Path

from modelopt.onnx.quantization import quantize

from fashion_mnist import FLOAT, ZOO, calibration

# name -> float original, mode, calibration, precision of the rest.
MODELS = {
    "modelopt_int8": ("fmnist_resnet", "int8", "entropy", "fp32"),
    "modelopt_int8_fp16": ("fmnist_mbv2", "int8", "max", "fp16"),
    "modelopt_int4_awq": ("fmnist_vit", "int4", "awq_clip", "fp32"),
}


def main():
    for name, (source, mode, method, precision) in MODELS.items():
        out = ZOO / f"{name}.onnx"
        with tempfile.TemporaryDirectory() as folder:
            # A copy, because the tool writes over its input and leaves files beside its output.
            model, quantized = Path(folder) / "model.onnx", Path(folder) / "quantized.onnx"
            shutil.copy(FLOAT / f"{source}.onnx", model)
            quantize(str(model), quantize_mode=mode, calibration_data={"input": calibration()}, calibration_method=method,
                     calibration_eps=["cpu"], high_precision_dtype=precision, output_path=str(quantized))
            shutil.copy(quantized, out)
        print(f"{out.name}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

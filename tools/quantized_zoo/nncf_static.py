"""Quantizes with NNCF, its ONNX backend.

Usage: python tools/quantized_zoo/nncf_static.py
Needs: nncf==3.4.0 onnx==1.23.2 onnxruntime==1.32.0 numpy
"""
import nncf, numpy as np, onnx

from fashion_mnist import FLOAT, ZOO, calibration

# name -> float original, options.
MODELS = {
    "nncf_mixed": ("fmnist_mbv2", dict(preset=nncf.QuantizationPreset.MIXED)),
    "nncf_cpu_performance": ("fmnist_resnet", dict(
        preset=nncf.QuantizationPreset.PERFORMANCE, target_device=nncf.TargetDevice.CPU)),
}


def main():
    dataset = nncf.Dataset([{"input": image} for image in np.split(calibration(), 128)])
    for name, (source, options) in MODELS.items():
        quantized = nncf.quantize(onnx.load(FLOAT / f"{source}.onnx"), dataset, subset_size=128, **options)
        onnx.save(quantized, ZOO / f"{name}.onnx")
        print(f"{name}.onnx: {(ZOO / f'{name}.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Quantizes with ONNX Runtime: static QDQ and QOperator, its own optimized graph, dynamic, 16 and 4 bits.

Usage: python tools/quantized_zoo/onnx_runtime.py [MODEL...]
Needs: onnxruntime==1.32.0 onnx==1.23.2 onnx_ir sympy numpy
"""
import sys, tempfile
from pathlib import Path

import numpy as np, onnx, onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from fashion_mnist import FLOAT, ZOO, calibration


class Images(CalibrationDataReader):
    def __init__(self, name):
        self.feeds = iter({name: batch} for batch in np.split(calibration(), 8))

    def get_next(self):
        return next(self.feeds, None)


def prepared(source, folder, opset=None, batch=None):
    """The float model after the preprocessing that the documentation of ONNX Runtime asks for."""
    model = onnx.load(FLOAT / f"{source}.onnx")
    if batch:
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    if opset:
        model = onnx.version_converter.convert_version(model, opset)
    plain, ready = Path(folder) / "plain.onnx", Path(folder) / "ready.onnx"
    onnx.save(model, plain)
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    return str(ready)


def static(source, out, opset=None, **options):
    with tempfile.TemporaryDirectory() as folder:
        quantize_static(prepared(source, folder, opset), str(out), Images("input"), **options)


def dynamic(source, out, batch=None, **options):
    with tempfile.TemporaryDirectory() as folder:
        quantize_dynamic(prepared(source, folder, batch=batch), str(out), **options)


def optimized(source, out, **options):
    """The graph that ONNX Runtime makes of a QDQ model on its way to execution, before layouts of one machine."""
    with tempfile.TemporaryDirectory() as folder:
        qdq = Path(folder) / "qdq.onnx"
        static(source, qdq, **options)
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        settings.optimized_model_filepath = str(out)
        onnxruntime.InferenceSession(str(qdq), settings, providers=["CPUExecutionProvider"])


def blocks(source, out, quant_format, opset=None, **options):
    """Weights of MatMul alone, 4 bits in blocks of 32."""
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(prepared(source, folder, opset))
    quantizer = MatMulNBitsQuantizer(model, block_size=32, quant_format=quant_format, **options)
    quantizer.process()
    onnx.save(quantizer.model.model, out)


U8, S8, U16, S4 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16, QuantType.QInt4
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
# name -> how, with its arguments.
MODELS = {
    "ort_qdq_u8s8_channel": (static, dict(
        source="fmnist_mbv2", activation_type=U8, weight_type=S8, per_channel=True)),
    "ort_qdq_s8s8_tensor": (static, dict(
        source="fmnist_resnet", activation_type=S8, weight_type=S8, extra_options=SYMMETRIC)),
    "ort_qoperator_u8u8": (static, dict(
        source="fmnist_resnet", quant_format=QuantFormat.QOperator, activation_type=U8, weight_type=U8)),
    "ort_qoperator_s8s8_channel": (static, dict(
        source="fmnist_mbv2", quant_format=QuantFormat.QOperator, activation_type=S8, weight_type=S8,
        per_channel=True)),
    "ort_optimized_u8s8": (optimized, dict(source="fmnist_resnet", activation_type=U8, weight_type=S8)),
    "ort_qdq_u16s8": (static, dict(source="fmnist_resnet", opset=21, activation_type=U16, weight_type=S8)),
    "ort_qdq_u16s4_contrib": (static, dict(
        source="fmnist_mbv2", activation_type=U16, weight_type=S4, per_channel=True,
        extra_options={"UseQDQContribOps": True})),
    "ort_dynamic_lstm": (dynamic, dict(source="fmnist_lstm", weight_type=S8)),
    "ort_dynamic_vit": (dynamic, dict(source="fmnist_vit", batch=1, weight_type=U8)),
    "ort_dynamic_conv": (dynamic, dict(source="fmnist_resnet", weight_type=U8)),
    "ort_blocks_matmulnbits": (blocks, dict(source="fmnist_vit", quant_format=QuantFormat.QOperator)),
    "ort_blocks_qdq": (blocks, dict(
        source="fmnist_vit", opset=21, quant_format=QuantFormat.QDQ, is_symmetric=True)),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        how, arguments = MODELS[name]
        how(out=ZOO / f"{name}.onnx", **arguments)
        print(f"{name}.onnx: {(ZOO / f'{name}.onnx').stat().st_size} bytes")

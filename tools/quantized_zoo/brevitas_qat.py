"""Trains with Brevitas, and exports as QCDQ: QuantizeLinear, Clip, DequantizeLinear.

Usage: python tools/quantized_zoo/brevitas_qat.py
Needs: brevitas==0.13.4 torch==2.8.0 onnx onnxscript onnxoptimizer numpy setuptools<80

Brevitas folds nothing into a float network of its own, so that none is written.
"""
import torch
from brevitas import nn as qnn
from brevitas.export import export_onnx_qcdq
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int16Bias, Uint8ActPerTensorFloat
from torch import nn

from fashion_mnist import ZOO
from pytorch_training import fit


def network(n_bits):
    """A small residual net of `n_bits` weights and activations; the first and the last layer have 8 bits."""
    def convolution(n_in, n_out, size, bits=n_bits, **options):
        return qnn.QuantConv2d(n_in, n_out, size, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=bits,
                               bias_quant=Int16Bias, **options)

    def relu():
        return qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=n_bits, return_quant_tensor=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=8, return_quant_tensor=True)
            self.stem = convolution(1, 16, 3, bits=8, stride=2, padding=1)
            self.depthwise = convolution(16, 16, 3, stride=2, padding=1, groups=16)
            self.pointwise = convolution(16, 32, 1)
            self.inner = convolution(32, 32, 3, padding=1)
            self.relu1, self.relu2, self.relu3, self.relu4 = (relu() for _ in range(4))
            self.add = qnn.QuantEltwiseAdd(input_quant=Int8ActPerTensorFloat, output_quant=Int8ActPerTensorFloat,
                                           return_quant_tensor=True)
            self.pool = nn.AvgPool2d(7)
            self.classes = qnn.QuantLinear(32, 10, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=8)

        def forward(self, x):
            x = self.relu1(self.stem(self.input(x)))
            x = self.relu2(self.depthwise(x))
            x = self.relu3(self.pointwise(x))
            x = self.add(x, self.relu4(self.inner(x)))
            return self.classes(torch.flatten(self.pool(x.value), 1))

    return Net()


def main():
    for name, n_bits in (("brevitas_w8a8", 8), ("brevitas_w4a4", 4)):
        torch.manual_seed(0)
        model = fit(network(n_bits), 6, 1e-2).eval()
        out = ZOO / f"{name}.onnx"
        export_onnx_qcdq(model, torch.zeros(1, 1, 28, 28), export_path=str(out), opset_version=17, dynamo=False,
                         input_names=["input"], output_names=["logits"],
                         dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})
        print(f"{out.name}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

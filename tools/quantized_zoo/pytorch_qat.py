"""Trains with the fake quantization of torch.ao, and exports FakeQuantize modules or the graph of PT2E.

Usage: python tools/quantized_zoo/pytorch_qat.py
Needs: torch==2.8.0 onnx onnxscript==0.7.2 numpy

Also writes the network of each model without fake quantization, testdata/models/<model>.onnx.
"""
import copy

import torch
from torch import nn
from torch.ao.quantization.backend_config import get_native_backend_config, get_tensorrt_backend_config
from torch.ao.quantization import (
    FakeQuantize, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver, QConfig, QConfigMapping,
    disable_fake_quant, disable_observer, get_default_qat_qconfig_mapping, quantize_fx,
)

from fashion_mnist import FLOAT, ZOO
from pytorch_training import fit

EXAMPLE = torch.zeros(1, 1, 28, 28)


def convolution(n_in, n_out, *size, **options):
    return nn.Sequential(nn.Conv2d(n_in, n_out, *size, bias=False, **options), nn.BatchNorm2d(n_out))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = convolution(1, 16, 3, stride=2, padding=1)
        self.depthwise = convolution(16, 16, 3, stride=2, padding=1, groups=16)
        self.pointwise = convolution(16, 32, 1)
        self.inner = convolution(32, 32, 3, padding=1)
        self.down = convolution(32, 32, 3, stride=2, padding=1)
        self.relu1, self.relu2, self.relu3, self.relu4, self.relu5 = (nn.ReLU() for _ in range(5))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(32, 10)

    def forward(self, x):
        x = self.relu1(self.stem(x))
        x = self.relu2(self.depthwise(x))
        x = self.relu3(self.pointwise(x))
        x = self.relu4(self.inner(x) + x)
        x = self.relu5(self.down(x))
        return self.classes(torch.flatten(self.pool(x), 1))


def symmetric():
    """s8 everywhere, the whole range of it, as TensorRT wants."""
    activation = FakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
        qscheme=torch.per_tensor_symmetric)
    weight = FakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric, ch_axis=0)
    return QConfigMapping().set_global(QConfig(activation=activation, weight=weight))


def unfused(mapping):
    """The default configuration with plain FakeQuantize modules: those that observe as well have no ONNX form."""
    def plain(constructor):
        arguments = dict(constructor.p.keywords)
        return FakeQuantize.with_args(**arguments)

    config = mapping.global_qconfig
    return QConfigMapping().set_global(QConfig(activation=plain(config.activation), weight=plain(config.weight)))


def export(model, path):
    torch.onnx.export(model, (EXAMPLE,), str(path), opset_version=13, input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}}, dynamo=False)
    print(f"{path.name}: {path.stat().st_size} bytes")


def qat_fx(net, name, mapping, backend):
    prepared = quantize_fx.prepare_qat_fx(copy.deepcopy(net).train(), mapping, (EXAMPLE,), backend_config=backend)
    model = fit(prepared, 1, 5e-4).eval()
    model.apply(disable_observer)
    export(model, ZOO / f"{name}.onnx")
    model.apply(disable_fake_quant)
    export(model, FLOAT / f"fmnist_{name}.onnx")


def qat_pt2e(net, name):
    from torch.ao.quantization.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torch.ao.quantization.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_qat=True))
    batch = {"x": {0: torch.export.Dim("batch", min=2, max=1024)}}
    example = (torch.zeros(2, 1, 28, 28),)
    graph = torch.export.export_for_training(copy.deepcopy(net).train(), example, dynamic_shapes=batch, strict=True).module()
    model = fit(prepare_qat_pt2e(graph, quantizer), 1, 5e-4)
    model = torch.ao.quantization.move_exported_model_to_eval(convert_pt2e(model))
    path = ZOO / f"{name}.onnx"
    torch.onnx.export(model, example, str(path), opset_version=18, input_names=["input"], output_names=["logits"],
                      dynamic_shapes=batch, dynamo=True, external_data=False)
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    torch.manual_seed(0)
    net = fit(Net(), 4, 1e-2)
    folded = quantize_fx.fuse_fx(copy.deepcopy(net).eval())
    qat_fx(net, "torch_qat_u7", unfused(get_default_qat_qconfig_mapping("x86")), get_native_backend_config())
    qat_fx(folded, "torch_qat_s8", symmetric(), get_tensorrt_backend_config())
    qat_pt2e(net, "torch_pt2e")


if __name__ == "__main__":
    main()

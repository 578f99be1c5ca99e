"""The float models that faults are planted in: small trained ones of the repository, and seeded networks made here."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
TRAINED = ["fmnist_mbv2", "fmnist_resnet", "fmnist_tf", "fmnist_vit"]
MADE = ["chain", "residual", "heads"]
SIZE = 16


class Builder:
    """A graph of convolutions with seeded weights."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.n = [], [], 0

    def node(self, op_type, inputs, **attributes):
        self.n += 1
        output = f"{op_type.lower()}{self.n}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"{op_type}_{self.n}", **attributes))
        return output

    def constant(self, array, name):
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(self, x, n_in, n_out, kernel=3, relu=True, stride=1, gain=1.0):
        scale = gain * np.sqrt(2.0 / (n_in * kernel * kernel))
        name = f"conv{self.n + 1}"
        weight = self.constant(self.random.normal(0, scale, (n_out, n_in, kernel, kernel)), f"{name}.weight")
        bias = self.constant(self.random.normal(0, 0.1, n_out), f"{name}.bias")
        pad = kernel // 2
        y = self.node("Conv", [x, weight, bias], pads=[pad] * 4, strides=[stride] * 2, kernel_shape=[kernel] * 2)
        return self.node("Relu", [y]) if relu else y

    def model(self, output, shape):
        graph = helper.make_graph(
            self.nodes,
            "made",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model


def chain(seed):
    b = Builder(seed)
    x = b.conv("x", 3, 16)
    x = b.conv(x, 16, 16)
    x = b.conv(x, 16, 32, stride=2)
    x = b.conv(x, 32, 32)
    x = b.conv(x, 32, 16, kernel=1)
    x = b.node("GlobalAveragePool", [x])
    return b.model(b.conv(x, 16, 10, kernel=1, relu=False), [1, 10, 1, 1])


def residual(seed):
    b = Builder(seed)
    x = b.conv("x", 3, 16)
    for _ in range(3):
        y = b.conv(x, 16, 16)
        y = b.conv(y, 16, 16, relu=False)
        x = b.node("Relu", [b.node("Add", [x, y])])
    x = b.node("GlobalAveragePool", [x])
    return b.model(b.conv(x, 16, 10, kernel=1, relu=False), [1, 10, 1, 1])


def heads(seed):
    b = Builder(seed)
    x = b.conv("x", 3, 16)
    x = b.conv(x, 16, 16, stride=2)
    left = b.conv(x, 16, 8)
    right = b.conv(x, 16, 8, kernel=1)
    x = b.node("Concat", [left, right], axis=1)
    x = b.conv(x, 16, 16)
    return b.model(b.conv(x, 16, 6, kernel=1, relu=False), [1, 6, SIZE // 2, SIZE // 2])


def made(name, seed):
    return {"chain": chain, "residual": residual, "heads": heads}[name](seed)


def samples(n, seed):
    """Smooth pictures: blobs on a gradient."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pictures = []
    for _ in range(n):
        planes = []
        for _ in range(3):
            a, b, c, d = random.uniform(-1, 1, 4)
            blob = np.exp(-((rows - abs(c)) ** 2 + (columns - abs(d)) ** 2) * 12)
            planes.append(a * rows + b * columns + 1.5 * blob + random.normal(0, 0.1, (SIZE, SIZE)))
        pictures.append(planes)
    return np.asarray(pictures, np.float32)

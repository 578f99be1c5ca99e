"""The models that engines.py measures: those of a folder, and those that are made here."""

import math
from dataclasses import dataclass
from pathlib import Path

MODELS = {  # file: (input, shape of one sample, batch)
    "efficientnet_lite0": ("input", (3, 224, 224), 1),
    "mobilenetv1_super8": ("input:0", (3, 224, 224), 1),
    "yolov8n_320": ("images", (3, 320, 320), 1),
    "ppocr_v4_det": ("x", (3, 480, 480), 1),
    "ppocr_v4_rec": ("x", (3, 48, 320), 1),
    "fmnist_vit": ("input", (1, 28, 28), 64),
}
RESNET50 = "resnet50"


@dataclass(frozen=True)
class Model:
    name: str
    path: Path
    input: str
    sample: tuple
    batch: int

    def shape(self, batch=None):
        return (batch or self.batch, *self.sample)

    def shape_option(self, batch=None):
        return ["--shape", f"{self.input}={','.join(map(str, self.shape(batch)))}"]


def find_models(folder, work, names):
    """The models there are, ResNet-50 made in `work`, and the files that are missing."""
    wanted = lambda name: not names or name in names
    models, missing = [], []
    for name, (input_name, sample, batch) in filter(lambda item: wanted(item[0]), MODELS.items()):
        path = folder / f"{name}.onnx"
        if path.exists():
            models.append(Model(name, path, input_name, sample, batch))
        else:
            missing.append(path)
    if wanted(RESNET50):
        path = work / f"{RESNET50}.onnx"
        resnet50(path)
        models.append(Model(RESNET50, path, "input", (3, 224, 224), 1))
    return models, missing


def resnet50(path, seed=0):
    """ResNet-50 with batch norms folded: Conv, Relu, Add, pooling, Gemm. Batch, height and width are open.

    He-scaled weights, the last convolution of a block at 0.2 of it, so that values stay finite.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def constant(name, array):
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(x, ic, oc, kernel, stride, name, gain=1.0, relu=True):
        scale = gain * math.sqrt(2 / (ic * kernel * kernel))
        w = constant(f"{name}.weight", rng.standard_normal((oc, ic, kernel, kernel)) * scale)
        b = constant(f"{name}.bias", rng.standard_normal(oc) * 0.01)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        nodes.append(helper.make_node("Conv", [x, w, b], [name], name, **attributes))
        return activate(name) if relu else name

    def activate(x):
        nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"], f"{x}.relu"))
        return f"{x}.relu"

    x = conv("input", 3, 64, 7, 2, "stem")
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    nodes.append(helper.make_node("MaxPool", [x], ["pool"], "pool", **pool))
    x, ic = "pool", 64
    for stage, n_blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(n_blocks):
            name, stride = f"stage{stage}.{block}", 2 if stage and not block else 1
            y = conv(x, ic, width, 1, 1, f"{name}.a")
            y = conv(y, width, width, 3, stride, f"{name}.b")
            y = conv(y, width, 4 * width, 1, 1, f"{name}.c", gain=0.2, relu=False)
            short = x if block else conv(x, ic, 4 * width, 1, stride, f"{name}.short", relu=False)
            nodes.append(helper.make_node("Add", [y, short], [f"{name}.sum"], f"{name}.sum"))
            x, ic = activate(f"{name}.sum"), 4 * width
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flat"))
    fc = [constant("fc.weight", rng.standard_normal((1000, ic)) * math.sqrt(1 / ic)), constant("fc.bias", np.zeros(1000))]
    nodes.append(helper.make_node("Gemm", ["flat", *fc], ["logits"], "fc", transB=1))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [info("logits", TensorProto.FLOAT, ["N", 1000])],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def matmul_model(path, n):
    """One square MatMul: what an engine reaches at most."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    w = numpy_helper.from_array(np.random.default_rng(0).standard_normal((n, n)).astype(np.float32), "w")
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matmul", [value("x")], [value("y")], [w])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return Model("matmul", path, "x", (n,), n)


def write_with_every_value(path, out):
    """Writes the model with every float intermediate as a graph output."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    known = {info.name: info for info in model.graph.value_info}
    present = {output.name for output in model.graph.output}
    for name in (name for node in model.graph.node for name in node.output):
        info = known.get(name)
        if info and name not in present and info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            model.graph.output.append(info)
    onnx.save(model, str(out))


def random_input(shape, seed=0):
    import numpy as np

    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)

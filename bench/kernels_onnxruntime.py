"""Times the layers of crates/qloupe-kernels/benches/layers.rs in ONNX Runtime, one thread, beside qloupe's.

    cargo bench -p qloupe-kernels --bench layers > qloupe.txt
    python bench/kernels_onnxruntime.py qloupe.txt

The figure is that of the convolution's own node in ONNX Runtime's profile (the best of many runs), not of the session,
which adds layout changes at the borders of a one-node model.
"""

import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

LAYERS = {
    "3x3 64-64 56": (56, 64, 64, 3, 1, 1),
    "1x1 64-128 56": (56, 64, 128, 1, 1, 1),
    "1x1 256-64 56": (56, 256, 64, 1, 1, 1),
    "3x3 128-128 28": (28, 128, 128, 3, 1, 1),
    "3x3 256-256 14": (14, 256, 256, 3, 1, 1),
    "3x3 512-512 7": (7, 512, 512, 3, 1, 1),
    "1x1 512-2048 7": (7, 512, 2048, 1, 1, 1),
    "3x3s2 32-64 80": (80, 32, 64, 3, 2, 1),
    "3x3 16-16 80": (80, 16, 16, 3, 1, 1),
    "first 3x3s2 3-32 224": (224, 3, 32, 3, 2, 1),
    "first 7x7s2 3-64 224": (224, 3, 64, 7, 2, 1),
    "1x1 64-256 56": (56, 64, 256, 1, 1, 1),
    "1x1 1024-256 14": (14, 1024, 256, 1, 1, 1),
    "groups 3x3 128 56": (56, 128, 128, 3, 1, 32),
    "dw 3x3 96 56": (56, 96, 96, 3, 1, 96),
    "dw 3x3s2 96 56": (56, 96, 96, 3, 2, 96),
    "dw 5x5 120 28": (28, 120, 120, 5, 1, 120),
    "dw 3x3 960 7": (7, 960, 960, 3, 1, 960),
}


def model(layer, quantized):
    size, ic, oc, k, stride, group = layer
    attributes = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4, "group": group}
    shape = (oc, ic // group, k, k)
    rng = np.random.default_rng(0)
    if quantized:
        values = {
            "xs": np.float32(0.02),
            "xz": np.uint8(100),
            "w": rng.integers(-127, 128, shape).astype(np.int8),
            "ws": np.full(oc, 0.01, np.float32),
            "wz": np.zeros(oc, np.int8),
            "ys": np.float32(0.05),
            "yz": np.uint8(3),
        }
        node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], **attributes)
        dtype, x = TensorProto.UINT8, rng.integers(0, 256, (1, ic, size, size)).astype(np.uint8)
    else:
        values = {"w": rng.standard_normal(shape).astype(np.float32)}
        node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
        dtype, x = TensorProto.FLOAT, rng.standard_normal((1, ic, size, size)).astype(np.float32)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", dtype, x.shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), x


def best_us(layer, quantized, runs=300):
    proto, x = model(layer, quantized)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, {"x": x})
        events = json.load(open(session.end_profiling()))
    is_conv = lambda e: e.get("cat") == "Node" and "Conv" in e.get("args", {}).get("op_name", "")
    return min(e["dur"] for e in events if is_conv(e))


def main():
    own = {}
    for path in sys.argv[1:]:
        for line in open(path):
            fields = line.rstrip("\n").split("\t")
            if len(fields) >= 2 and fields[0].startswith(("f32 ", "i8 ")):
                own[fields[0]] = float(fields[1])
    ratios = {"f32": [], "i8": []}
    print(f"{'layer':28} {'ORT us':>9} {'qloupe us':>9} {'ratio':>6}")
    for kind in ratios:
        for name, layer in LAYERS.items():
            theirs = best_us(layer, kind == "i8")
            ours = own.get(f"{kind} {name}")
            ratio = ours / theirs if ours else float("nan")
            ratios[kind].append(ratio)
            print(f"{kind + ' ' + name:28} {theirs:9.0f} {ours or 0:9.1f} {ratio:6.2f}")
        print(f"{kind} geometric mean {np.exp(np.nanmean(np.log(ratios[kind]))):.2f}")


main()

#!/usr/bin/env python3
"""What the vendor's simulator rounds, unit by unit, beside ours: the patterns in docs/BENCHMARKS.md.

    VENV/bin/python bench/rknn_units.py QLOUPE WORK

VENV is that of check_rknn.py (rknn-toolkit2, Linux only, never part of the gate). One small network with random weights has
every pattern once, behind convolutions of its own. Both tools calibrate on the same eight arrays (`normal`, per channel) and run
one. For each value: whether the simulator left it on its grid of 256 numbers, whether our plan names it, and the elements that
are equal. `weights` fits what a convolution multiplied with to its output by least squares, and tells on which grid it lies.
"""

import argparse
import json
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rknn.api import RKNN

CHANNELS, SIZE, N_ARRAYS = 8, 32, 8
#: Nodes behind one convolution "c" (or "depthwise", "transposed"), by name; "r" is a value of the network.
PATTERNS = {
    "relu": ["Relu c > y"],
    "clip": ["Clip c low high > y"],
    "sigmoid": ["Sigmoid c > y"],
    "tanh": ["Tanh c > y"],
    "elu": ["Elu c > y"],
    "softplus": ["Softplus c > y"],
    "leaky_relu": ["LeakyRelu c > y"],
    "prelu": ["PRelu c slope > y"],
    "hard_swish": ["HardSwish c > y"],
    "hard_sigmoid": ["HardSigmoid c > y"],
    "swish": ["Sigmoid c > s", "Mul c s > y"],
    "swish_read_twice": ["Sigmoid c > s", "Mul c s > y", "Tanh c > z"],
    "add": ["Add r c > y"],
    "add_relu": ["Add c r > a", "Relu a > y"],
    "add_swish": ["Add c r > a", "Sigmoid a > s", "Mul a s > y"],
    "add_leaky_relu": ["Add c r > a", "LeakyRelu a > y"],
    "add_read_twice": ["Add c r > y", "Tanh c > z"],
    "relu_add": ["Relu c > a", "Add a r > y"],
    "relu_sigmoid": ["Relu c > a", "Sigmoid a > y"],
    "sub": ["Sub c r > y"],
    "mul": ["Mul c r > y"],
    "max": ["Max c r > y"],
    "depthwise_relu": ["Relu depthwise > y"],
    "depthwise_swish": ["Sigmoid depthwise > s", "Mul depthwise s > y"],
    "depthwise_add": ["Add depthwise r > y"],
    "transposed_swish": ["Sigmoid transposed > s", "Mul transposed s > y"],
}  # fmt: skip


def network():
    """The model; values of a pattern are `pattern.value`."""
    rng = np.random.default_rng(0)
    nodes, constants, outputs = [], [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def product(kind, x, y, inputs=CHANNELS):
        group = CHANNELS if kind == "depthwise" else 1
        shape = (CHANNELS, inputs // group, 3, 3)
        weight = constant(f"{y}_w", rng.normal(size=shape) * 3 / np.sqrt(np.prod(shape[1:])))
        bias = constant(f"{y}_b", rng.normal(size=CHANNELS) * 0.5)
        op = "ConvTranspose" if kind == "transposed" else "Conv"
        nodes.append(
            helper.make_node(op, [x, weight, bias], [y], name=y, kernel_shape=[3, 3], pads=[1] * 4, group=group)
        )

    for x, y, inputs in (("x", "a", 3), ("ra", "b", CHANNELS)):
        product("c", x, y, inputs)
        nodes.append(helper.make_node("Relu", [y], [f"r{y}"], name=f"r{y}"))
    shared = {"r": "ra", "low": constant("low", 0), "high": constant("high", 6)}
    shared["slope"] = constant("slope", rng.uniform(0.05, 0.3, (CHANNELS, 1, 1)))
    for pattern, lines in PATTERNS.items():
        kind = next(each for each in ("depthwise", "transposed", "c") if any(each in line.split() for line in lines))
        product(kind, "rb", f"{pattern}.{kind}")
        for line in lines:
            op, *inputs, _, output = line.split()
            inputs = [shared.get(name, f"{pattern}.{name}") for name in inputs]
            attributes = {"alpha": 0.1} if op == "LeakyRelu" else {}
            nodes.append(
                helper.make_node(op, inputs, [f"{pattern}.{output}"], name=f"{pattern}.{output}", **attributes)
            )
            if output in "yz":
                outputs.append(f"{pattern}.{output}")
    float32 = TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", float32, [1, 3, SIZE, SIZE])
    outputs = [helper.make_tensor_value_info(name, float32, None) for name in outputs]
    graph = helper.make_graph(nodes, "patterns", [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model), rng


def vendor(work):
    rknn = RKNN(verbose=False)
    rknn.config(target_platform="rk3588", quantized_algorithm="normal", quantized_method="channel")
    assert rknn.load_onnx(str(work / "model.onnx")) == 0
    assert rknn.build(do_quantization=True, dataset=str(work / "dataset.txt")) == 0
    rknn.accuracy_analysis(inputs=[str(work / "0.npy")], output_dir=str(work / "snapshot"))


def ours(qloupe, work):
    """What the plan says of each value, and the values of a run in integers."""
    build = "build model.onnx --target rk3588 --dataset dataset.txt --algorithm min_max --optimization-level 0 -o q.onnx --quiet"
    run = "infer model.onnx --plan q.plan.toml --input 0.npy --mode integer --dump dump --out out.npz --quiet"
    for command in (build, run):
        subprocess.run([qloupe, *command.split()], cwd=work, check=True, stdout=subprocess.DEVNULL)
    index = json.loads((work / "dump/index.json").read_text())["sample_0"]
    folder = work / "dump/sample_0/values"
    values = {
        name: np.load(folder / entry["file"]).ravel()
        for name, entry in index.items()
        if (folder / entry["file"]).is_file()
    }
    return tomllib.loads((work / "q.plan.toml").read_text())["values"], values


def simulated(work, name):
    file = work / "snapshot/simulator/npy" / f"{re.sub('[/.:]', '_', name)}.npy"
    return np.load(file).astype(np.float64) if file.is_file() else None


def weights(model, work):
    """On which grid of a channel the weights lie that the simulator used in the convolution `swish.c`."""
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}["swish.c_w"]
    x, y = (simulated(work, name)[0] for name in ("rb", "swish.c"))
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    taps = [x[c, i : i + SIZE, j : j + SIZE].ravel() for c in range(CHANNELS) for i in range(3) for j in range(3)]
    columns = np.stack([*taps, np.ones(SIZE * SIZE)], 1)
    for what, step in {
        "(max - min) / 255": lambda w: (max(w.max(), 0) - min(w.min(), 0)) / 255,
        "max|w| / 127": lambda w: np.abs(w).max() / 127,
    }.items():
        off = 0.0
        for channel, weight in enumerate(stored):
            used = np.linalg.lstsq(columns, y[channel].ravel(), rcond=None)[0][:-1]
            steps = used / step(weight.astype(np.float64))
            off = max(off, np.abs(steps - np.round(steps)).max())
        print(f"weights in steps of {what}: at most {off:.5f} off an integer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("qloupe", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model, rng = network()
    onnx.save(model, work / "model.onnx")
    for idx in range(N_ARRAYS):
        np.save(work / f"{idx}.npy", rng.normal(size=(1, 3, SIZE, SIZE)).astype(np.float32))
    (work / "dataset.txt").write_text("".join(f"{work / f'{idx}.npy'}\n" for idx in range(N_ARRAYS)))
    vendor(work)
    plan, values = ours(args.qloupe.resolve(), work)
    weights(model, work)
    print(f"{'value':32} theirs   ours     equal")
    shares = []
    for node in model.graph.node:
        name = node.output[0]
        theirs = simulated(work, name)
        if theirs is None:
            continue
        rounds = "rounded" if len(np.unique(theirs)) <= 256 else "exact"
        equal = ""
        if name in plan and name in values:
            share = (np.abs(values[name] - theirs.ravel()) < plan[name]["scale"] / 2).mean()
            shares.append(share)
            equal = f"{share:.4f}"
        print(f"{name:32} {rounds:8} {'rounded' if name in plan else 'fused':8} {equal}")
    shares = np.array(shares)
    print(
        f"{len(shares)} values: {shares.mean():.4f} of the elements are equal, in {(shares > 0.999).sum()} values more than 99.9%"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Checks qloupe against ONNX Runtime: float outputs, quantized units one by one, and predictions.

Usage: check_onnxruntime.py QLOUPE float MODEL INPUT.npz [QLOUPE_ARGS..]
       check_onnxruntime.py QLOUPE units QDQ.onnx DUMP_INTEGER DUMP_FAKE_QUANT
       check_onnxruntime.py QLOUPE predictions QDQ.onnx INPUTS.npz OUTPUTS.npz

Needs the PyPI packages numpy, onnx and onnxruntime. `units` feeds every unit of a QDQ model the very integers that
qloupe's run had there (`qloupe infer --dump`), so that errors do not add up: the integer run is compared with ONNX
Runtime's default optimization, the fake-quant run with optimization disabled.
"""
import json, os, subprocess, sys, tempfile
import numpy as np, onnx, onnxruntime as ort
from onnx import helper, numpy_helper

ort.set_default_logger_severity(3)


def session(model, optimized=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def check_float(qloupe, model, arrays, *args):
    """max|d| / max(range, max|ref|, 1e-3) of every output."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.npz")
        subprocess.run([qloupe, "infer", model, "--input", arrays, "--out", out, "--quiet", *args], check=True,
                       stdout=subprocess.DEVNULL)
        ours = np.load(out)
        run = session(model, optimized=False)
        given = np.load(arrays)
        n = len(next(iter(given.values())))
        # Arrays with a sample axis of their own lose it; others keep it as their batch.
        rank = {x.name: len(x.shape) for x in run.get_inputs()}
        one = lambda k, v, i: np.asarray(v[i]) if v.ndim > rank[k] else v[i:i + 1]
        reference = [run.run(None, {k: one(k, v, i) for k, v in given.items()}) for i in range(n)]
        worst = 0.0
        for position, info in enumerate(run.get_outputs()):
            ref = np.concatenate([r[position] for r in reference]).astype(np.float64)
            test = ours[info.name].astype(np.float64).reshape(ref.shape)
            scale = max(ref.max() - ref.min(), np.abs(ref).max(), 1e-3)
            error = np.abs(ref - test).max() / scale
            # Classes are on the last axis; of a map the largest pixel counts.
            rows = (lambda a: a.reshape(len(a), -1)) if ref.ndim == 4 else (lambda a: a)
            same = (rows(ref).argmax(-1) == rows(test).argmax(-1)).mean()
            worst = max(worst, error)
            print(f"{os.path.basename(model):28} {info.name:32} {str(ref.shape):20} error {error:.2e} argmax equal {same:.4f}")
        return worst


def load_dump(folder):
    index = json.load(open(os.path.join(folder, "index.json")))["sample_0"]
    return {name: np.load(os.path.join(folder, "sample_0", "values", entry["file"])) for name, entry in index.items()}


class Units:
    """The units of a QDQ model: from quantized values to one quantized value."""

    def __init__(self, path):
        self.model = onnx.load(path)
        graph = self.model.graph
        self.producer = {o: n for n in graph.node for o in n.output}
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.quantize = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        self.inputs = {i.name for i in graph.input}

    def unit(self, quantize):
        """(nodes, names of quantized inputs) behind a QuantizeLinear; None when something else is read."""
        nodes, inputs, stack, seen = [], [], [quantize.input[0]], set()
        while stack:
            name = stack.pop()
            if name in seen or name in self.constants or not name:
                continue
            seen.add(name)
            node = self.producer.get(name)
            if node is None:
                return None
            nodes.append(node)
            if node.op_type == "DequantizeLinear" and node.input[0] not in self.constants:
                inputs.append(node.input[0])
            else:
                stack.extend(node.input)
        order = {id(n): i for i, n in enumerate(self.model.graph.node)}
        nodes = sorted({id(n): n for n in nodes}.values(), key=lambda n: order[id(n)])
        return nodes + [quantize], inputs

    def submodel(self, nodes, inputs, output, dtype, shapes):
        used = {i for n in nodes for i in n.input}
        make = lambda name, shape: helper.make_tensor_value_info(name, dtype, shape)
        graph = helper.make_graph(nodes, "unit", [make(i, shapes[i]) for i in inputs], [make(output, None)],
                                  [i for i in self.model.graph.initializer if i.name in used])
        return helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)


def check_units(path, integer_dump, fake_dump):
    units = Units(path)
    dumps = [(load_dump(integer_dump), True), (load_dump(fake_dump), False)]
    totals = {True: [0, 0, 0, 0], False: [0, 0, 0, 0]}
    skipped = []
    for quantize in units.quantize:
        value = quantize.output[0].removesuffix("_quantized")
        found = units.unit(quantize)
        if found is None or not found[1] or quantize.input[0] in units.inputs:
            skipped.append(value)
            continue
        nodes, inputs = found
        for dump, optimized in dumps:
            def integers(quantized):
                name = quantized.removesuffix("_quantized")
                scale, zero = units.constants[f"{name}_scale"], units.constants[f"{name}_zero_point"]
                return np.rint(dump[name] / scale + zero.astype(np.float64)).astype(zero.dtype)
            if any(i.removesuffix("_quantized") not in dump for i in inputs) or value not in dump:
                skipped.append(value)
                continue
            feed = {i: np.asarray(integers(i)) for i in inputs}
            dtype = helper.np_dtype_to_tensor_dtype(next(iter(feed.values())).dtype)
            model = units.submodel(nodes, inputs, quantize.output[0], dtype, {k: v.shape for k, v in feed.items()})
            reference = session(model, optimized).run(None, feed)[0].astype(np.int32)
            test = integers(quantize.output[0]).astype(np.int32)
            steps = np.abs(reference - test)
            equal = (steps == 0).mean()
            total = totals[optimized]
            total[0] += 1
            total[1] += equal >= 0.999
            total[2] += steps.size
            total[3] += int((steps == 0).sum())
            if equal < 0.999 or steps.max() > 1:
                ops = "+".join(n.op_type for n in nodes if n.op_type not in ("DequantizeLinear", "QuantizeLinear"))
                kind = "default" if optimized else "disabled"
                print(f"  {kind:8} {value[:60]:60} {ops:30} equal {equal:.5f} most {steps.max()} steps of {steps.size}")
    for optimized, (n, good, size, equal) in totals.items():
        kind = "integer, default optimization" if optimized else "fake-quant, optimization disabled"
        print(f"{os.path.basename(path)}: {kind}: {good}/{n} units at 99.9%, {equal}/{size} elements equal")
    print(f"  not compared: {len(set(skipped))} {sorted(set(skipped))[:5]}")


def check_predictions(path, inputs, outputs):
    run = session(path)
    given, ours = np.load(inputs), np.load(outputs)
    (name, x), = given.items()
    output = run.get_outputs()[0].name
    reference = np.concatenate([run.run(None, {name: x[i:i + 1]})[0] for i in range(len(x))])
    same = (reference.argmax(-1) == ours[output].argmax(-1)).mean()
    equal = np.isclose(reference, ours[output], rtol=0, atol=1e-6).mean()
    print(f"{os.path.basename(path)}: predictions agree on {same:.4f} of {len(x)}, {equal:.4f} of output elements equal")


def main():
    qloupe, what, *args = sys.argv[1:]
    if what == "float":
        check_float(qloupe, *args)
    elif what == "units":
        check_units(*args)
    else:
        check_predictions(*args)


main()

#!/usr/bin/env python3
"""Plants faults in quantized models and counts how often the analysis names the unit first, and the right cause.

    cargo build --release -p qloupe-cli
    python3 bench/planted_faults.py --seed 1 --json faults.json

Three ways to plant: an edit of the plan, an edit of the QDQ model (analyzed with --quantized), an edit of the float model.
A fault that moves the outputs by less than 0.1 dB is left out. Clean configurations are counted beside: none may have a
finding of severity error.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

from bench_venv import enter_venv

PACKAGES = ["onnx", "numpy"]
ROOT = Path(__file__).resolve().parent.parent
LEAST_EFFECT_DB = 0.1
OUTSIDE = {"activation_clipped", "zero_point_shifted"}


def wide(times):
    return lambda low, high: (low * times, high * times)


# Edits of a range; the causes that are right.
ACTIVATION = {
    "act_wide4": (wide(4), {"activation_range_wide"}),
    "act_wide16": (wide(16), {"activation_range_wide"}),
    "act_clip2": (wide(1 / 2.5), {"activation_clipped"}),
    "act_clip4": (wide(1 / 5), {"activation_clipped"}),
    "act_clip_top": (lambda low, high: (low, high * 0.3), {"activation_clipped"}),
    "act_clip_bottom": (lambda low, high: (low * 0.3, high), {"activation_clipped"}),
    "zero_point_up": (lambda low, high: (low - 0.25 * (high - low), high - 0.25 * (high - low)), OUTSIDE),
    "zero_point_down": (lambda low, high: (low + 0.25 * (high - low), high + 0.25 * (high - low)), OUTSIDE),
}
WEIGHT = {
    "weight_wide4": (lambda s: [x * 4 for x in s], {"weight_scale_wide", "dead_channel"}),
    "weight_wide16": (lambda s: [x * 16 for x in s], {"weight_scale_wide", "dead_channel"}),
    "weight_clip2": (lambda s: [x / 2.5 for x in s], {"weight_clipped"}),
    "weight_clip4": (lambda s: [x / 5 for x in s], {"weight_clipped"}),
    "weight_channel_wide": (lambda s: [s[0] * 30, *s[1:]], {"weight_scale_wide", "dead_channel"}),
    "weight_channel_clip": (lambda s: [s[0] / 8, *s[1:]], {"weight_clipped"}),
    "weight_scales_rotated": (lambda s: s[1:] + s[:1], {"weight_clipped", "weight_scale_wide", "weight_axis"}),
}
QDQ = {
    "bias_scale2": {"bias_wrong", "bias_scale"},
    "bias_zero": {"bias_wrong"},
    "bias_negated": {"bias_wrong"},
    "bias_one_channel": {"bias_wrong"},
    "channel_dead": {"dead_channel"},
    "channel_negated": {"weight_wrong"},
    "weights_shuffled": {"weight_wrong"},
    "relu_added": {"different_computation"},
    "relu_removed": {"different_computation"},
}
FLOAT = {
    "outlier_channel": {"outlier_channel", "activation_outlier_channel", "dead_channel"},
    "outlier_activation": {"activation_outlier_channel"},
    "fp16_overflow": {"fp16_overflow", "not_finite"},
    "fp16_underflow": {"fp16_underflow"},
}
SPECIAL = {
    "input_clipped": {"input_saturated"},
    "input_wide": {"activation_range_wide"},
    "concat_wide": {"activation_range_wide"},
    "weight_axis": {"weight_axis"},
}


class Skip(Exception):
    """This fault does not fit here."""


class Model:
    def __init__(self, name, seed, work, qloupe):
        import numpy as np
        import onnx
        import planted_models

        self.name, self.work, self.qloupe = name, work, qloupe
        if name in planted_models.TRAINED:
            self.path = ROOT / "testdata/models" / f"{name}.onnx"
            data = ROOT / "testdata/fmnist"
            self.options = ["--recipe", data / "recipe.toml"]
            self.calibration, self.test = data / "calib", data / "test"
        else:
            self.path = work / f"{name}.onnx"
            onnx.save(planted_models.made(name, seed), self.path)
            self.options = []
            self.calibration, self.test = work / f"{name}.calib.npy", work / f"{name}.test.npy"
            np.save(self.calibration, planted_models.samples(64, seed + 1))
            np.save(self.test, planted_models.samples(8, seed + 2))
        self.clean = {}

    def call(self, *arguments):
        command = [str(self.qloupe), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(" ".join(command) + "\n" + done.stderr)
        return done.stdout

    def analyze(self, *how, model=None):
        text = self.call("analyze", model or self.path, *how, *self.options, "--input", self.test, "--json", "--quiet")
        return json.loads(text)

    def quantize_options(self, target, method, algorithm, level):
        return ["--target", target, "--dataset", self.calibration, "--method", method, "--algorithm", algorithm] + [
            "--optimization-level", str(level)
        ]

    def built(self, target, method, algorithm="min_max", level=1):
        """The plan, the QDQ model and the report of a clean configuration."""
        key = (target, method, algorithm, level)
        if key not in self.clean:
            out = self.work / f"{self.name}.{'.'.join(map(str, key))}.onnx"
            self.call("build", self.path, *self.quantize_options(*key), *self.options, "-o", out, "--quiet")
            plan = out.with_suffix(".plan.toml")
            self.clean[key] = (plan, out, self.analyze("--plan", plan))
        return self.clean[key]


def edited_plan(text, section, name, edit):
    """The text of a plan with the line of a value or a weight edited."""
    start = text.index(f"[{section}]")
    line = re.compile("^" + re.escape(json.dumps(name, ensure_ascii=False)) + " = .*$", re.M)
    found = line.search(text, start)
    return text[: found.start()] + edit(found.group()) + text[found.end() :]


def set_params(line, low, high):
    low, high = min(low, 0.0), max(high, 0.0)
    signed = '"int8"' in line
    scale = (high - low) / 255
    zero_point = max(-128, min(127, round(-128 - low / scale))) if signed else max(0, min(255, round(-low / scale)))
    line = re.sub(r"scale = [^,}]+", f"scale = {scale!r}", line)
    return re.sub(r"zero_point = [^,}]+", f"zero_point = {zero_point}", line)


def shifted(line, steps):
    """A zero point that is off, with the scale as it is."""
    zero_point = int(re.search(r"zero_point = (-?\d+)", line)[1])
    low, high = (-128, 127) if '"int8"' in line else (0, 255)
    moved = max(low, min(high, zero_point + steps))
    if abs(moved - zero_point) < 30:
        raise Skip
    return re.sub(r"zero_point = [^,}]+", f"zero_point = {moved}", line)


def plan_fault(kind, model, dice):
    target = dice.choice(["rk3588", "onnxruntime"])
    channel_kinds = ("weight_channel_wide", "weight_channel_clip", "weight_scales_rotated", "weight_axis")
    method = "channel" if kind in channel_kinds else dice.choice(["layer", "channel"])
    plan, _, clean = model.built(target, method)
    text = plan.read_text()
    contents = tomllib.loads(text)
    measured = {layer["name"] for layer in clean["layers"] if "effect" in layer}
    values = contents["values"]
    own = [v for v, e in values.items() if "scale" in e and e.get("precision") in ("int8", "uint8") and v in measured]
    inner = [v for v in own if values[v]["unit"] != "Input"]
    if kind in ACTIVATION:
        name = dice.choice(inner)
        entry = values[name]
        if kind.startswith("zero_point"):
            steps = 64 if kind == "zero_point_up" else -64
            edit = lambda line: shifted(line, steps)
        else:
            if kind == "act_clip_bottom" and entry["min"] > -0.2 * entry["max"]:
                raise Skip
            low, high = ACTIVATION[kind][0](entry["min"], entry["max"])
            edit = lambda line: set_params(line, low, high)
        text = edited_plan(text, "values", name, edit)
        causes = ACTIVATION[kind][1]
    elif kind in ("input_clipped", "input_wide", "concat_wide"):
        unit = "Concat" if kind == "concat_wide" else "Input"
        names = [v for v in own if values[v]["unit"] == unit]
        if not names:
            raise Skip
        name = dice.choice(names)
        times = {"input_clipped": 0.3, "input_wide": 16, "concat_wide": 16}[kind]
        low, high = values[name]["min"] * times, values[name]["max"] * times
        text = edited_plan(text, "values", name, lambda line: set_params(line, low, high))
        causes = SPECIAL[kind]
    else:
        import onnx

        graph = onnx.load(model.path).graph
        weights = contents["weights"]
        writers = {row["node"]: row["name"] for row in clean["layers"]}
        fused = {row["node"]: row.get("fused_into") for row in clean["layers"]}
        choices = []
        for node in graph.node:
            for weight in set(node.input) & set(weights):
                shape = next((list(i.dims) for i in graph.initializer if i.name == weight), None)
                label = node.name or node.output[0]
                row = fused.get(label) or writers.get(label)
                if row in measured and shape:
                    choices.append((weight, row, shape, node.op_type))
        if kind == "weight_axis":
            choices = [c for c in choices if c[3] == "Conv" and c[2][0] == c[2][1] and c[2][0] > 4]
        if not choices:
            raise Skip
        weight, name, shape, _ = dice.choice(choices)
        entry = weights[weight]

        def edit(line):
            if kind == "weight_axis":
                return line.replace("axis = 0", "axis = 1")
            scale = entry["scale"] if isinstance(entry["scale"], list) else [entry["scale"]]
            new = WEIGHT[kind][0](scale)
            written = ", ".join(map(repr, new))
            bracket = f"[{written}]" if isinstance(entry["scale"], list) else written
            return re.sub(r"scale = (\[[^\]]*\]|[^,}]+)", f"scale = {bracket}", line, count=1)

        text = edited_plan(text, "weights", weight, edit)
        causes = SPECIAL[kind] if kind in SPECIAL else WEIGHT[kind][1]
    faulty = model.work / "faulty.plan.toml"
    faulty.write_text(text)
    return clean, model.analyze("--plan", faulty), name, causes


def qdq_fault(kind, model, dice):
    import numpy as np
    import onnx
    from onnx import numpy_helper

    _, path, _ = model.built("onnxruntime", "channel")
    proto = onnx.load(path)
    graph = proto.graph
    stored = {i.name: i for i in graph.initializer}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    if "quantized" not in model.clean:
        model.clean["quantized"] = model.analyze("--quantized", path)
    clean = model.clean["quantized"]
    measured = {layer["name"] for layer in clean["layers"] if "effect" in layer}

    def products(dtype):
        """Dequantized constants with the node that reads each, and the value that is quantized after it."""
        for node in graph.node:
            if node.op_type != "DequantizeLinear" or node.input[0] not in stored:
                continue
            array = numpy_helper.to_array(stored[node.input[0]])
            product = readers[node.output[0]][0]
            at = product
            while readers[at.output[0]] and readers[at.output[0]][0].op_type in ("Relu", "Clip", "Add"):
                at = readers[at.output[0]][0]
            if array.dtype == dtype and at.output[0] in measured:
                yield node, array, product, at

    if kind.startswith("bias"):
        found = [p for p in products(np.int32) if np.abs(p[1]).max() > 0]
    elif kind == "relu_added":
        found = [p for p in products(np.int8) if p[2] is p[3] and p[2].op_type == "Conv"]
    elif kind == "relu_removed":
        found = [p for p in products(np.int8) if p[3].op_type == "Relu"]
    else:
        found = [p for p in products(np.int8) if p[2].op_type == "Conv"]
    if not found:
        raise Skip
    constant, array, product, last = dice.choice(found)
    name = last.output[0]
    array = array.copy()
    channel = int(np.abs(array.reshape(array.shape[0], -1).astype(np.int64)).sum(1).argmax())
    if kind == "bias_scale2":
        scale = stored[constant.input[1]]
        changed = numpy_helper.to_array(scale) * 2
        own = numpy_helper.from_array(changed.astype(np.float32), constant.input[1] + "_wrong")
        graph.initializer.append(own)
        constant.input[1] = own.name
    elif kind == "bias_zero":
        array[:] = 0
    elif kind == "bias_negated":
        array = -array
    elif kind == "bias_one_channel":
        array[channel] = -2 * array[channel]
    elif kind == "channel_dead":
        array[channel] = 0
    elif kind == "channel_negated":
        array[channel] = -array[channel]
    elif kind == "weights_shuffled":
        flat = array.reshape(array.shape[0], -1)
        flat[:] = np.random.default_rng(dice.randrange(1 << 30)).permuted(flat, axis=1)
    elif kind == "relu_added":
        inner = name + "_before_relu"
        last.output[0] = inner
        graph.node.insert(list(graph.node).index(last) + 1, onnx.helper.make_node("Relu", [inner], [name]))
    elif kind == "relu_removed":
        before = last.input[0]
        writer = next(node for node in graph.node if before in node.output)
        writer.output[list(writer.output).index(before)] = name
        graph.node.remove(last)
    stored[constant.input[0]].CopyFrom(numpy_helper.from_array(array, constant.input[0]))
    faulty = model.work / "faulty.onnx"
    onnx.save(proto, faulty)
    # The audit names a bias itself.
    return clean, model.analyze("--quantized", faulty), {name, constant.output[0].removesuffix("_dequantized")}, QDQ[kind]


def float_fault(kind, model, dice):
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(model.path)
    graph = proto.graph
    stored = {i.name: i for i in graph.initializer}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    pairs = []
    for node in graph.node:
        if node.op_type != "Conv" or len(readers[node.output[0]]) != 1:
            continue
        relu = readers[node.output[0]][0]
        after = readers[relu.output[0]] if relu.op_type == "Relu" else []
        if len(after) == 1 and after[0].op_type == "Conv" and len(node.input) == 3:
            pairs.append((node, relu, after[0]))
    if not pairs:
        raise Skip
    node, relu, after = dice.choice(pairs)

    def change(name, edit):
        array = edit(numpy_helper.to_array(stored[name]).copy())
        stored[name].CopyFrom(numpy_helper.from_array(array, name))

    channel = dice.randrange(stored[node.input[1]].dims[0])
    is_outlier = kind in ("outlier_channel", "outlier_activation")
    times = 60.0 if is_outlier else {"fp16_overflow": 1e6, "fp16_underflow": 3e-5}[kind]
    where = channel if is_outlier else slice(None)

    def grown(array):
        array[where] *= times
        return array

    def shrunk(array):
        array[:, where] /= times
        return array

    change(node.input[1], grown)
    change(node.input[2], grown)
    change(after.input[1], shrunk)
    faulty = model.work / "faulty_float.onnx"
    onnx.save(proto, faulty)
    if is_outlier:
        # With a scale for each channel of the weight only the activation is left with one for all.
        method = "layer" if kind == "outlier_channel" else "channel"
        how = model.quantize_options(dice.choice(["rk3588", "onnxruntime"]), method, "min_max", 1)
        clean = model.analyze(*how)
        return clean, model.analyze(*how, model=faulty), relu.output[0], FLOAT[kind]
    clean = model.analyze("--precision", "fp16")
    return clean, model.analyze("--precision", "fp16", model=faulty), {node.output[0], relu.output[0]}, FLOAT[kind]


def outputs_db(report):
    return report["additivity"]["sqnr_db"]


def number(value):
    return float(value)


def run_case(kind, model, dice):
    plant = plan_fault if kind in ACTIVATION | WEIGHT | SPECIAL else qdq_fault if kind in QDQ else float_fault
    clean, faulty, name, causes = plant(kind, model, dice)
    moved = number(outputs_db(clean)) - number(outputs_db(faulty))
    if moved < LEAST_EFFECT_DB:
        raise Skip
    first = faulty["findings"][0] if faulty["findings"] else {}
    names = name if isinstance(name, set) else {name}
    right_unit = first.get("layer") in names or (name is None and first.get("id") in causes)
    return {
        "kind": kind,
        "model": model.name,
        "unit": sorted(filter(None, names)),
        "moved_db": moved,
        "named": first.get("layer"),
        "id": first.get("id"),
        "right_unit": right_unit,
        "right_cause": first.get("id") in causes,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qloupe", default=ROOT / "target/release/qloupe", help="the program")
    parser.add_argument("--venv", type=Path, default=ROOT / "target/bench-venv", help="the virtual environment")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-kind", type=int, default=8, help="faults of each kind, at least")
    parser.add_argument("--kinds", nargs="*", help="only these kinds")
    parser.add_argument("--json", help="write every case as JSON")
    args = parser.parse_args()
    enter_venv(args.venv, PACKAGES)
    import planted_models

    work = Path(tempfile.mkdtemp(prefix="planted-"))
    dice = random.Random(args.seed)
    names = planted_models.TRAINED + planted_models.MADE
    models = [Model(name, args.seed, work, Path(args.qloupe).resolve()) for name in names]
    kinds = args.kinds or sorted([*ACTIVATION, *WEIGHT, *QDQ, *FLOAT, *SPECIAL])
    cases = []
    for kind in kinds:
        n_tries = 0
        while sum(c["kind"] == kind for c in cases) < args.per_kind and n_tries < 5 * args.per_kind:
            n_tries += 1
            try:
                case = run_case(kind, models[n_tries % len(models)], dice)
            except Skip:
                continue
            except RuntimeError as error:
                print(f"{kind}: {error}", file=sys.stderr)
                continue
            cases.append(case)
            if not (case["right_unit"] and case["right_cause"]):
                print(json.dumps(case), file=sys.stderr, flush=True)
    print("| kind | faults | unit named first | right cause |\n|---|---|---|---|")
    for kind in kinds:
        own = [c for c in cases if c["kind"] == kind]
        if own:
            share = lambda key: f"{100 * sum(c[key] for c in own) / len(own):.0f}%"
            print(f"| {kind} | {len(own)} | {share('right_unit')} | {share('right_cause')} |")
    total = len(cases)
    for key in ("right_unit", "right_cause"):
        print(f"{key}: {sum(c[key] for c in cases)} of {total}, {100 * sum(c[key] for c in cases) / max(total, 1):.1f}%")
    errors, n_clean = [], 0
    for model in models:
        for target in ("rk3588", "onnxruntime"):
            for method in ("layer", "channel"):
                for level in (0, 1):
                    n_clean += 1
                    report = model.built(target, method, "min_max", level)[2]
                    errors += [(model.name, target, method, level, f["id"]) for f in report["findings"] if f["severity"] == "error"]
    print(f"clean configurations: {n_clean}, with an error: {errors or 'none'}")
    if args.json:
        Path(args.json).write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()

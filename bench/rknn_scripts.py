#!/usr/bin/env python3
"""The classic scripts (python/tests/scripts) with rknn-toolkit2 and with qloupe.rknn: the section of docs/BENCHMARKS.md.

    PYTHON bench/rknn_scripts.py VENDOR_PYTHON MODELS DATA WORK [--calibration 20] [--scripts a,b,c,d,e]

Optional and never part of the gate: the vendor's package is closed and takes 5.6 GB (bench/check_rknn.py says how to install it).
PYTHON has qloupe and Pillow, VENDOR_PYTHON has rknn-toolkit2. The pictures are brought to the size of the model before, so that both
see the same. Printed: return codes, seconds from start to end of each script, processor seconds and peak memory; and for every
table that both wrote the rank correlation of the cosines of all layers that both have, and the layers that differ most.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[1] / "python" / "tests" / "scripts"
NAMES = {"a": "int8_analysis", "b": "fp16_inference", "c": "algorithms", "d": "hybrid", "e": "proposal"}
MODELS = {
    "yolov8n_320": {"INPUT": "'images'", "SIZE": "[1, 3, 320, 320]", "MEAN": "[[0, 0, 0]]", "STD": "[[255, 255, 255]]",
                    "LAYER": "'/model.0/act/Mul_output_0'"},
    "efficientnet_lite0": {"INPUT": "'input'", "SIZE": "[1, 3, 224, 224]", "MEAN": "[[127, 127, 127]]",
                           "STD": "[[128, 128, 128]]", "LAYER": "'/_blocks.2/Add_output_0'"},
}  # fmt: skip
ROW = re.compile(r"^\[(\w+)\] (\S+) +(\d\.\d{5}) \| *(\d+\.\d{5}) *(\d\.\d{5}) \| *(\d+\.\d{5})", re.M)
#: What the vendor appends to names of values that it moved or cast.
SUFFIX = re.compile(r"(-rs|_rs|_tp|_sw|_mm|_int8|__float16|_float16|_float32|_before_\w+)$")


def prepare(name, models, data, folder, n_calibration):
    """A folder in which every script finds what it reads."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "model.onnx"
    link.unlink(missing_ok=True)
    link.symlink_to((models / f"{name}.onnx").resolve())
    size = int(MODELS[name]["SIZE"].split(",")[-1].strip(" ]"))

    def sized(source, target):
        Image.open(source).convert("RGB").resize((size, size)).save(target)

    pick = lambda part, n: [each for each in sorted((data / "imagenet_sample" / part).glob("*.jpg"))][:: max(1, 250 // n)][:n]
    lines = []
    for idx, file in enumerate(pick("calib", n_calibration)):
        sized(file, folder / f"calib_{idx:03}.png")
        lines.append(f"calib_{idx:03}.png")
    (folder / "dataset.txt").write_text("\n".join(lines) + "\n")
    (test,) = pick("test", 1)
    sized(test, folder / "test.png")
    np.save(folder / "image.npy", np.asarray(Image.open(folder / "test.png")))


def script(name, model, vendor):
    """The text of a script for a model."""
    text = (SCRIPTS / f"{NAMES[name]}.py").read_text()
    for key, value in MODELS[model].items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
    return text if vendor else text.replace("from rknn.api import RKNN", "from qloupe.rknn import RKNN")


def run(python, file, folder):
    """Return code, wall seconds, processor seconds, MB; the output goes to a log."""
    start = time.perf_counter()
    with open(folder / f"{file.stem}.log", "w") as log:
        process = subprocess.Popen([python, file.name], cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    return os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def table(file):
    """(entire, single) cosines by layer."""
    if not file.is_file():
        return {}
    return {name: (float(entire), float(single)) for _, name, entire, _, single, _ in ROW.findall(file.read_text())}


def matched(vendor, ours):
    """Pairs by our names. Of several names of the vendor's for one value the first counts."""
    pairs = {}
    for name, numbers in vendor.items():
        while name not in ours and SUFFIX.search(name):
            name = SUFFIX.sub("", name)
        if name in ours and name not in pairs:
            pairs[name] = (numbers, ours[name])
    return pairs


def ranks(values):
    """Ranks from 0; the same for equal values."""
    values = np.asarray(values)
    order = values.argsort(kind="stable")
    found = np.empty(len(values))
    found[order] = np.arange(len(values))
    for value in np.unique(values):
        found[values == value] = found[values == value].mean()
    return found


def correlation(a, b):
    """Spearman's."""
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vendor")
    for name in ("models", "data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--calibration", type=int, default=20)
    parser.add_argument("--scripts", default="a,b,c,d,e")
    parser.add_argument("--only", default=",".join(MODELS))
    options = parser.parse_args()
    print("| model | script | return codes | seconds | ratio | processor s | peak MB |")
    tables = []
    for model in options.only.split(","):
        for key in options.scripts.split(","):
            results = []
            for who, python in (("vendor", options.vendor), ("qloupe", sys.executable)):
                folder = options.work / model / key / who
                prepare(model, options.models, options.data, folder, options.calibration)
                file = folder / f"{NAMES[key]}.py"
                file.write_text(script(key, model, who == "vendor"))
                results.append(run(python, file, folder))
            (code, wall, cpu, mb), (code2, wall2, cpu2, mb2) = results
            print(f"| {model} | {key} | {code}, {code2} | {wall:.1f}, {wall2:.2f} | {wall / wall2:.1f} | {cpu:.1f}, {cpu2:.2f} "
                  f"| {mb:.0f}, {mb2:.0f} |", flush=True)
            base = options.work / model / key
            for file in sorted((base / "qloupe").glob("snapshot*/error_analysis.txt")):
                ours, theirs = table(file), table(base / "vendor" / file.parent.name / file.name)
                tables.append((model, key, file.parent.name, matched(theirs, ours), len(theirs), len(ours)))
    print("\n| model | script | table | layers in both (vendor, qloupe) | rank correlation entire | single | largest difference |")
    for model, key, name, pairs, n_theirs, n_ours in tables:
        if len(pairs) < 3:
            print(f"| {model} | {key} | {name} | {len(pairs)} ({n_theirs}, {n_ours}) | | | |")
            continue
        entire, single = ([(their[i], our[i]) for their, our in pairs.values()] for i in (0, 1))
        worst = max(pairs, key=lambda layer: abs(pairs[layer][0][0] - pairs[layer][1][0]))
        their, our = pairs[worst]
        print(f"| {model} | {key} | {name} | {len(pairs)} ({n_theirs}, {n_ours}) | {correlation(*zip(*entire)):.3f} "
              f"| {correlation(*zip(*single)):.3f} | `{worst}`: entire {their[0]:.5f}, {our[0]:.5f}; single {their[1]:.5f}, {our[1]:.5f} |")


if __name__ == "__main__":
    main()

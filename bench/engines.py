#!/usr/bin/env python3
"""Measures qloupe beside ONNX Runtime and OpenVINO on one machine: the tables of docs/BENCHMARKS.md.

    cargo build --release -p qloupe-cli
    python3 bench/engines.py --models MODELS --out table.md --json table.json
    python3 bench/engines.py --models MODELS --scaling docs/plots

Makes a virtual environment (--venv) with its packages and runs itself there. MODELS holds the models that
engine_models.py names; those that are missing are said and skipped. ResNet-50 is made here, with seeded random weights.
Every row is measured in passes: in each pass all engines take turns, a figure is the minimum over the passes, a ratio
that of two minima of the same passes. It is qloupe's figure over ONNX Runtime's: below 1, qloupe is better.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import engine_models
import engine_runs
from bench_venv import enter_venv

PACKAGES = ["onnxruntime", "openvino", "onnx", "numpy", "matplotlib"]
ROOT = Path(__file__).resolve().parent.parent
N_CALIBRATION = 8
N_IMAGES = 64
PEAK_SIZE = 1024


class Bench:
    """The rows. Each is a method: its text goes above its table."""

    def __init__(self, args, work):
        self.args, self.work, self.rows, self.peaks = args, work, [], {}
        self.threads = args.threads
        self.qloupe = engine_runs.Qloupe(args.qloupe, args.seconds)
        self.models, missing = engine_models.find_models(args.models, work, args.names)
        for path in missing:
            print(f"{path}: not there, skipped", file=sys.stderr)

    def add(self, row, model, threads, unit, qloupe, peer, **more):
        entry = {"row": row, "model": model, "threads": threads, "unit": unit, "qloupe": qloupe, "peer": peer}
        self.rows.append(entry | {"ratio": qloupe / peer if peer else None} | more)
        print(json.dumps(self.rows[-1]), file=sys.stderr, flush=True)

    def interleave(self, engines):
        return engine_runs.interleave(engines, self.args.passes, self.args.patience)

    def samples(self, model, n):
        """A file of random samples; made once, so that no timing holds it."""
        import numpy as np

        path = self.work / f"{model.name}.{n}.npy"
        if not path.exists():
            np.save(path, engine_models.random_input((n, *model.sample)))
        return path

    def build(self, model, n, out, *options):
        """Calibrates on n samples and writes the QDQ model and its plan."""
        target = ["--target", "onnxruntime", "--algorithm", "min_max", "--dataset", self.samples(model, n)]
        self.qloupe.call("build", model.path, *target, "-o", out, "--quiet", *options)

    def quantized(self, model):
        """The QDQ file and the plan of a model."""
        out = self.work / f"{model.name}.int8.onnx"
        if not out.exists():
            self.build(model, N_CALIBRATION, out)
        return out, out.with_suffix(".plan.toml")

    def ort(self, model, threads, path=None, batch=None):
        return engine_runs.ort_latency(path or model.path, model, threads, self.args.seconds, batch)

    def engines(self, model, path, threads, is_float, options=(), batch=None):
        try:
            openvino = engine_runs.openvino_latency(path, model, threads, self.args.seconds, is_float, batch)
        except Exception as error:
            openvino = None
            print(f"OpenVINO cannot run {path.name}: {error}", file=sys.stderr)
        bench = self.qloupe.passes(model, threads, *options, batch=batch)
        return {
            "qloupe": lambda: bench()["latency_ms"]["min"],
            "ort": self.ort(model, threads, path, batch),
            "openvino": openvino,
        }

    def engines_in(self, model, threads, is_float):
        """The engines on the float model, or on its QDQ form."""
        path, plan = (model.path, None) if is_float else self.quantized(model)
        return self.engines(model, path, threads, is_float, ["--plan", plan] if plan else [])

    def peak(self, threads, is_float):
        """Multiply-accumulates per ms of the fastest engine on one MatMul."""
        key = (threads, is_float)
        if key not in self.peaks:
            model = engine_models.matmul_model(self.work / "matmul.onnx", PEAK_SIZE)
            ms = self.interleave(self.engines_in(model, threads, is_float))
            self.peaks[key] = PEAK_SIZE**3 / min(filter(None, ms.values()))
            row = f"MatMul {PEAK_SIZE}, {'float32' if is_float else 'int8'}"
            self.add(row, "-", threads, "ms", ms["qloupe"], ms["ort"], openvino=ms["openvino"])
        return self.peaks[key]

    def latency(self, row, is_float):
        for model in self.models:
            inspected = json.loads(self.qloupe.call("inspect", model.path, *model.shape_option(), "--json"))
            for threads in self.threads:
                bound = inspected["macs"] / self.peak(threads, is_float)
                ms = self.interleave(self.engines_in(model, threads, is_float))
                more = {"openvino": ms["openvino"], "bound": bound, "achieved": bound / ms["qloupe"]}
                self.add(row, model.name, threads, "ms", ms["qloupe"], ms["ort"], **more)

    def float32(self):
        """One run, batch 64 for fmnist_vit and 1 for the others.

        bound: what the multiply-accumulates take at the rate that the fastest engine reaches on a square MatMul.
        """
        self.latency("float32", True)

    def int8(self):
        """One run of the same QDQ model: its plan in qloupe, its file in the others. bound: as in float32."""
        self.latency("int8", False)

    def observed(self):
        """A run in which every value is handed to the caller over a plain run; in ONNX Runtime every value an output."""
        for model in self.models:
            path = self.work / f"{model.name}.all.onnx"
            engine_models.write_with_every_value(model.path, path)
            for threads in self.threads:
                bench = self.qloupe.passes(model, threads, "--observe")

                def ours():
                    found = bench()
                    return {"observed": found["observed_ms"]["min"], "run": found["latency_ms"]["min"]}

                ort = {"ort_all": self.ort(model, threads, path), "ort": self.ort(model, threads)}
                ms = self.interleave({"qloupe": ours} | ort)
                ratios = ms["observed"] / ms["run"], ms["ort_all"] / ms["ort"]
                self.add("every value observed / plain run", model.name, threads, "x", *ratios)

    def alone(self):
        """The sum of the times of all units, each executed alone on inputs held in memory, over a plain run, float32."""
        for model in self.models:
            for threads in self.threads:
                bench = self.qloupe.passes(model, threads, "--units")

                def ours():
                    found = bench()
                    return {"units": found["units_ms"], "run": found["latency_ms"]["min"]}

                ms = self.interleave({"qloupe": ours})
                self.add("every unit alone / plain run", model.name, threads, "x", ms["units"] / ms["run"], None)

    def memory(self):
        """Memory at most (VmHWM) of a process that loads and runs the float model.

        qloupe: the whole process. ONNX Runtime: what a process holds more than Python with numpy, which is the last
        column, holds by itself.
        """
        for model in self.models:
            for threads in self.threads:
                ours = self.qloupe.bench(model, threads, runs=1)["rss_peak_bytes"] / 1e6
                command = [sys.executable, engine_runs.__file__, model.path, threads, model.input, *model.shape()]
                ort = json.loads(subprocess.check_output(list(map(str, command))))
                peer = (ort["peak"] - ort["python"]) / 1e6
                self.add("memory", model.name, threads, "MB", ours, peer, python=ort["python"] / 1e6)

    def analyze(self):
        """`analyze` of one sample, views entire, tensor and local, integer mode, over one float run in ONNX Runtime.

        The phases of the report without load and calibration; the report itself is in none of them. Warm: a tenth of what
        11 samples take more than one.
        """
        threads = self.threads[-1]
        for model in self.models:
            _, plan = self.quantized(model)
            options = ["--plan", plan, "--views", "entire,tensor,local", "--json", "--threads", threads]

            def phases(n):
                report = self.qloupe.call("analyze", model.path, "--input", self.samples(model, n), *options)
                phases = json.loads(report)["timing"]["phases"]
                return sum(p["seconds"] for p in phases if p["name"] not in ("load", "calibrate")) * 1e3

            # The minimum of each, as that of their difference would be of passes in which one sample was slow.
            engines = {"one": lambda: phases(1), "all": lambda: phases(11)}
            ms = self.interleave(engines | {"ort": self.ort(model, threads, batch=1)})
            ours = (ms["all"] - ms["one"]) / 10
            self.add("analyze of one sample / run", model.name, threads, "ms", ours, ms["ort"])

    def calibrate(self):
        """Calibration with min_max on 64 samples over 64 runs of one sample in ONNX Runtime.

        The time of a process of `build` with 64 samples less that with 1, times 64/63; level 0, which runs no pass.
        """
        threads = self.threads[-1]
        for model in self.models:
            for n in (1, N_IMAGES):
                self.samples(model, n)

            def build(n):
                start = time.perf_counter()
                options = ["--threads", threads, "--optimization-level", "0"]
                self.build(model, n, self.work / "calibrated.onnx", *options)
                return (time.perf_counter() - start) * 1e3

            engines = {"one": lambda: build(1), "all": lambda: build(N_IMAGES)}
            ms = self.interleave(engines | {"ort": self.ort(model, threads, batch=1)})
            ours = (ms["all"] - ms["one"]) * N_IMAGES / (N_IMAGES - 1)
            self.add("calibration on 64 samples / 64 runs", model.name, threads, "ms", ours, ms["ort"] * N_IMAGES)

    def program(self):
        """The size of the program, and how long `qloupe --help` takes, process start to exit."""
        self.add("program size", "-", 0, "MB", os.path.getsize(self.args.qloupe) / 1e6, None)
        self.add("qloupe --help", "-", 0, "ms", engine_runs.best_ms(lambda: self.qloupe.call("--help"), 1), None)

    def scaling(self):
        """Time over the batch and over the size of the image."""
        import engine_scaling

        engine_scaling.measure_scaling(self, self.args.scaling)

    ROWS = (float32, int8, observed, alone, memory, analyze, calibrate, program)

    def run(self, row):
        n_before = len(self.rows)
        row(self)
        for entry in self.rows[n_before:]:
            entry["note"] = " ".join(row.__doc__.split())

    def describe(self):
        import onnxruntime
        import openvino

        info = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
        names = (line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
        cpu = f"{next(names, platform.machine())}, {os.cpu_count()} cores"
        isa = self.qloupe.bench(self.models[-1], 1, runs=1)["isa"]
        peers = f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}"
        load = f"load before {os.getloadavg()[1]:.1f}"
        return f"{cpu}, instruction set {isa}; {peers}; {self.args.passes} passes; {load}."


MORE_COLUMNS = {"openvino": "OpenVINO", "bound": "bound", "achieved": "bound / qloupe", "python": "Python, numpy"}


def number(value, unit=""):
    if value is None:
        return "-"
    digits = 2 if unit == "x" or abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def markdown(rows, about):
    """A table for each row, with the geometric mean and the maximum of its ratios."""
    lines, notes = [about, ""], set()
    for row in dict.fromkeys(entry["row"] for entry in rows):
        entries = [entry for entry in rows if entry["row"] == row]
        unit, note = entries[0]["unit"], entries[0].get("note", "")
        lines += [f"### {row}", ""] + ([note, ""] if note not in notes else [])
        notes.add(note)
        more = {key: title for key, title in MORE_COLUMNS.items() if key in entries[0]}
        head = ["model", "threads", f"qloupe, {unit}", f"ONNX Runtime, {unit}", "ratio", *more.values()]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for entry in entries:
            figures = [number(entry["qloupe"], unit), number(entry["peer"], unit), number(entry["ratio"], "x")]
            figures += [number(entry[key], "x" if key == "achieved" else "") for key in more]
            lines.append(f"| {' | '.join([entry['model'], str(entry['threads'] or '-'), *figures])} |")
        lines += ["", *summary(entries, unit)]
    return "\n".join(lines)


def summary(entries, unit):
    columns = [("ratio", "ratio")] + ([("qloupe", "qloupe")] if unit == "x" else [])
    for key, title in columns:
        values = [entry[key] for entry in entries if entry[key] and entry[key] > 0]
        if len(values) > 1:
            mean = math.exp(sum(map(math.log, values)) / len(values))
            yield from (f"{title}: geometric mean {mean:.2f}, at most {max(values):.2f}", "")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qloupe", type=Path, default=ROOT / "target/release/qloupe", help="the program")
    parser.add_argument("--models", type=Path, default=ROOT / "testdata/models", help="the folder of the models")
    parser.add_argument("--venv", type=Path, default=ROOT / "target/bench-venv", help="the virtual environment")
    names = [*engine_models.MODELS, engine_models.RESNET50]
    parser.add_argument("--names", nargs="*", choices=names, help="only these models")
    parser.add_argument("--rows", nargs="*", choices=[row.__name__ for row in Bench.ROWS], help="only these rows")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="time of an engine in one pass")
    parser.add_argument("--patience", type=float, default=1, help="seconds to wait for a quiet machine before each")
    parser.add_argument("--scaling", type=Path, metavar="FOLDER", help="measure scaling instead, and plot it there")
    parser.add_argument("--out", type=Path, help="write the tables as Markdown")
    parser.add_argument("--json", type=Path, help="write every figure as JSON")
    return parser.parse_args()


def main(args):
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(args, Path(work))
        about = bench.describe()
        rows = [Bench.scaling] if args.scaling else Bench.ROWS
        for row in rows:
            if not args.rows or row.__name__ in args.rows:
                bench.run(row)
    table = markdown(bench.rows, about)
    print(table)
    if args.out:
        args.out.write_text(table)
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rows": bench.rows}, indent=1))


if __name__ == "__main__":
    arguments = parse()
    enter_venv(arguments.venv, PACKAGES)
    main(arguments)

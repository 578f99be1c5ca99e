#!/usr/bin/env python3
"""Checks `qloupe export --to rknn` with the vendor's own compiler and PC simulator: the table of docs/BENCHMARKS.md.

    VENV/bin/python bench/check_rknn.py QLOUPE MODELS DATA WORK [MODEL..] [--algorithm min_max] [--calibration 32] [--test 64]

Optional and never part of the gate: rknn-toolkit2 is closed, for Linux and Python 3.11 or so, and takes 5.6 GB with torch.

    python3.11 -m venv VENV && VENV/bin/pip install --no-cache-dir rknn-toolkit2==2.5.0 'setuptools<81'

For each model: `qloupe build --target rk3588`; `qloupe export --to rknn-script`, whose arrays are the calibration samples of
both tools; step 1 of the vendor's hybrid quantization (`normal`, `channel`); `qloupe export --to rknn`; step 2 with the
vendor's own cfg and with ours; the vendor's simulator on test samples with both. `qloupe infer --mode integer` is the same
plan in our simulator. `--script` runs the exported convert.py, too; `--raise VALUES`
sets values to fp16 in the plan. MODELS and DATA are folders as in MODELS of
docs/BENCHMARKS.md: imagenet_sample/{calib,test}/*.jpg, ocr_lines/*.png.

Columns: samples (frames for text) whose largest output is that of the float model in ONNX Runtime; cosine, mean over samples;
signal over error in dB, pooled; for a detector also the cosine of the scores alone.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime

MODELS = {
    "efficientnet_lite0": (
        "[input.input]\nmean = 127\nstd = 128\nresize = 'center-crop'\nshort_side = 256\ninterpolation = 'bicubic'\n"
    ),
    "mobilenetv1_super8": (
        "[input.'input:0']\nmean = 127.5\nstd = 127.5\nresize = 'center-crop'\nshort_side = 256\n"
    ),
    "ppocr_v4_rec": (
        "[input.x]\nchannel_order = 'bgr'\nsize = [48, 640]\nresize = 'keep-height'\nmean = 127.5\nstd = 127.5\n"
    ),
    "yolov8n_320": "[input.images]\nstd = 255\nsize = [320, 320]\nresize = 'letterbox'\n",
}
TARGET = "rk3588"


def every(files, n):
    n = min(n, len(files))
    return [files[idx * len(files) // n] for idx in range(n)]


def samples(model, data, n_calibration, n_test):
    """Files to calibrate on and files to compare on."""
    if model == "ppocr_v4_rec":
        lines = sorted((data / "ocr_lines").glob("*.png"))
        return every(lines[::2], n_calibration), every(lines[1::2], n_test)
    pick = lambda part, n: every(sorted((data / "imagenet_sample" / part).glob("*.jpg")), n)
    return pick("calib", n_calibration), pick("test", n_test)


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


class Check:
    def __init__(self, name, options):
        self.name, self.qloupe = name, Path(options.qloupe).resolve()
        self.model = (options.models / f"{name}.onnx").resolve()
        self.work = (options.work / name).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.algorithm = options.algorithm
        self.raised = [value for value in options.raised.split(",") if value]
        (self.work / "recipe.toml").write_text(MODELS[name])
        parts = samples(name, options.data.resolve(), options.calibration, options.test)
        for part, files in zip(("calibration", "test"), parts):
            (self.work / f"{part}.txt").write_text("".join(f'"{file}"\n' for file in files))

    def ours(self):
        """The plan, and both parts as arrays before mean and std."""
        recipe = ["--recipe", self.work / "recipe.toml"]
        build = ["--target", TARGET, "--dataset", self.work / "calibration.txt", "--algorithm", self.algorithm]
        run(self.qloupe, "build", self.model, *build, *recipe, "-o", self.work / "ours.onnx", "--quiet")
        self.plan = self.work / "ours.plan.toml"
        lines = self.plan.read_text().splitlines()
        for value in self.raised:
            at = next(idx for idx, line in enumerate(lines) if line.startswith(f'"{value}" = '))
            lines[at] = re.sub(r'precision = "int8"|shared_with = "[^"]*"', 'precision = "fp16"', lines[at], count=1)
        self.plan.write_text("\n".join(lines) + "\n")
        for part in ("calibration", "test"):
            script = ["--plan", self.plan, "--to", "rknn-script", "--dataset", self.work / f"{part}.txt"]
            run(self.qloupe, "export", self.model, *script, *recipe, "-o", self.work / part)
        text = (self.work / "calibration" / "convert.py").read_text()
        values = {key: line.split("=", 1)[1].rstrip(",") for line in text.splitlines()
                  for key in ("mean_values", "std_values") if line.strip().startswith(key)}
        self.config = {key: json.loads(value) for key, value in values.items()}
        lines = (self.work / "test" / "dataset.txt").read_text().split()
        self.test = [np.load(self.work / "test" / line) for line in lines]

    def floats(self):
        """Outputs of the float model."""
        session = onnxruntime.InferenceSession(str(self.model), providers=["CPUExecutionProvider"])
        axes = (1, -1) + (1,) * (self.test[0].ndim - 2)
        mean, std = (np.array(self.config[key][0], np.float32).reshape(axes) for key in ("mean_values", "std_values"))
        name = session.get_inputs()[0].name
        return [session.run(None, {name: (x.astype(np.float32) - mean) / std}) for x in self.test]

    def vendor(self):
        from rknn.api import RKNN

        rknn = RKNN(verbose=False)
        options = dict(quantized_algorithm="normal", quantized_method="channel", optimization_level=3)
        rknn.config(target_platform=TARGET, **options, **self.config)
        return rknn

    def step1(self):
        """The vendor's cfg."""
        os.chdir(self.work / "calibration")
        rknn = self.vendor()
        graph_input = onnxruntime.InferenceSession(str(self.model)).get_inputs()[0].name
        shape = list(self.test[0].shape)
        if rknn.load_onnx(str(self.model), inputs=[graph_input], input_size_list=[shape]) != 0:
            raise SystemExit(f"{self.name}: load_onnx failed")
        if rknn.hybrid_quantization_step1(dataset="dataset.txt", proposal=False) != 0:
            raise SystemExit(f"{self.name}: hybrid_quantization_step1 failed")
        rknn.release()
        return self.work / "calibration" / f"{self.model.stem}.quantization.cfg"

    def export(self, cfg):
        """Our cfg, and what was matched."""
        ours = self.work / "ours.cfg"
        command = ["--plan", self.plan, "--to", "rknn", "--cfg", cfg, "-o", ours, "--json"]
        return ours, json.loads(run(self.qloupe, "export", self.model, *command))

    def imported(self, cfg):
        """What `build --ranges` makes of the vendor's cfg."""
        options = ["--target", TARGET, "--dataset", self.work / "calibration.txt", "--recipe", self.work / "recipe.toml"]
        run(self.qloupe, "build", self.model, *options, "--ranges", cfg, "-o", self.work / "theirs.onnx", "--quiet")
        return self.work / "theirs.plan.toml"

    def simulate(self, cfg):
        """Outputs of the vendor's simulator with a cfg, and the size of its file."""
        os.chdir(self.work / "calibration")
        rknn = self.vendor()
        stem = self.model.stem
        if rknn.hybrid_quantization_step2(f"{stem}.model", f"{stem}.data", str(cfg)) != 0:
            return None, 0
        file = self.work / f"{cfg.stem}.rknn"
        exported = rknn.export_rknn(str(file)) == 0
        rknn.init_runtime()
        outputs = [rknn.inference(inputs=[x], data_format="nchw") for x in self.test]
        rknn.release()
        return outputs, file.stat().st_size if exported else 0

    def integer(self, plan):
        """Outputs of our simulator."""
        out = self.work / "integer.npz"
        options = ["--plan", plan, "--mode", "integer", "--recipe", self.work / "recipe.toml"]
        run(self.qloupe, "infer", self.model, "--input", self.work / "test.txt", *options, "--out", out)
        arrays = np.load(out)
        names = [output.name for output in onnxruntime.InferenceSession(str(self.model)).get_outputs()]
        return [[arrays[name][idx : idx + 1] for name in names] for idx in range(len(self.test))]


def cosine(a, b):
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else float(np.array_equal(a, b))


def compare(name, reference, test):
    """Same answers, cosine, dB, cosine of scores."""
    pairs = [(r[0].astype(np.float64), t[0].astype(np.float64).reshape(r[0].shape)) for r, t in zip(reference, test)]
    if name == "yolov8n_320":
        scores = [(r[:, 4:].ravel(), t[:, 4:].ravel()) for r, t in pairs]
        same = np.mean([r.argmax() == t.argmax() for r, t in scores])
        of_scores = np.mean([cosine(r, t) for r, t in scores])
    else:
        same = np.mean(np.concatenate([(r.argmax(-1) == t.argmax(-1)).ravel() for r, t in pairs]))
        of_scores = None
    cosines = np.mean([cosine(r.ravel(), t.ravel()) for r, t in pairs])
    signal, noise = (sum(float((x**2).sum()) for x in values)
                     for values in ([r for r, _ in pairs], [r - t for r, t in pairs]))
    return same, cosines, 10 * np.log10(signal / noise) if noise else np.inf, of_scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("qloupe", "models", "data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("model", nargs="*", default=sorted(MODELS))
    parser.add_argument("--algorithm", default="min_max")
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--test", type=int, default=64)
    parser.add_argument("--script", action="store_true", help="run the exported convert.py, too")
    parser.add_argument("--raise", dest="raised", default="", metavar="VALUES", help="values set to fp16 in the plan")
    options = parser.parse_args()
    rows, notes = [], []
    for name in options.model:
        check = Check(name, options)
        check.ours()
        reference = check.floats()
        log = open(check.work / "vendor.log", "w")
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            cfg = check.step1()
            own, own_size = check.simulate(cfg)
            ours, exported = check.export(cfg)
            theirs, ours_size = check.simulate(ours)
        fields = {key: value if isinstance(value, int) else len(value) for key, value in exported.items()
                  if key not in ("files", "format")}
        notes.append(f"{name}: {fields}; .rknn of {own_size} and {ours_size} bytes")
        imported = check.imported(cfg)
        runs = [("vendor's simulator, its ranges", own), (f"vendor's simulator, ours ({options.algorithm})", theirs),
                (f"qloupe, integer, ours ({options.algorithm})", check.integer(check.plan)),
                ("qloupe, integer, the vendor's ranges", check.integer(imported))]
        for label, outputs in runs:
            if outputs is None:
                rows.append(f"| {name} | {label} | refused | | | |")
                continue
            same, cosines, sqnr, scores = compare(name, reference, outputs)
            last = "" if scores is None else f"{scores:.4f}"
            rows.append(f"| {name} | {label} | {100 * same:.1f} | {cosines:.5f} | {sqnr:.1f} | {last} |")
            print(rows[-1], flush=True)
        if options.script:
            environment = dict(os.environ, QLOUPE=str(check.qloupe))
            run(sys.executable, check.work / "calibration" / "convert.py", env=environment)
            notes.append(f"{name}: convert.py ran to its end")
    print("\n| model | ranges | same answers, % | cosine | dB | cosine of scores |\n|---|---|---|---|---|---|")
    print("\n".join(rows + [""] + notes))


if __name__ == "__main__":
    main()

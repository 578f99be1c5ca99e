"""Task accuracy of float, fp16 and int8 by `qloupe evaluate`: the table of docs/BENCHMARKS.md.

    python bench/accuracy_table.py target/release/qloupe MODELS DATA WORK [MODEL...]

Writes samples, labels and recipes into WORK and runs the models, target onnxruntime, 64 calibration samples. DATA holds
fmnist/ (t10k-*.gz, calib200.npz), imagenet_sample/{calib,test}/<class index>_*.jpg, ocr_lines/ (labels.csv, pictures) and
speech/*.wav. Needs numpy, pillow, onnxruntime.
"""

import csv
import gzip
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from accuracy_tasks import every, super8

N_CALIBRATION = 64
RECIPES = {
    "fmnist": "[input.input]\nmean = 72.93\nstd = 90.015\nnormalize_arrays = true\n",
    "efficientnet_lite0": "[input.input]\nmean = 127\nstd = 128\nresize = 'center-crop'\nshort_side = 256\n"
    "interpolation = 'bicubic'\n",
    "mobilenetv1_super8": "[input.'input:0']\nmean = 127.5\nstd = 127.5\nresize = 'center-crop'\nshort_side = 256\n",
    "ppocr_v4_rec": "[input.x]\nchannel_order = 'bgr'\nsize = [48, 640]\nresize = 'keep-height'\nmean = 127.5\n"
    "std = 127.5\n",
    "ppocr_v2_cls": "[input.x]\nchannel_order = 'bgr'\nsize = [48, 192]\nresize = 'keep-height'\nmean = 127.5\n"
    "std = 127.5\n",
    "silero_vad_16k_sequence": "[input.h]\nvalue = 0\n[input.c]\nvalue = 0\n",
    "magika": "",
}


def write_labels(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def fmnist(data, work):
    images = gzip.open(data / "fmnist/t10k-images-idx3-ubyte.gz").read()[16:]
    labels = gzip.open(data / "fmnist/t10k-labels-idx1-ubyte.gz").read()[8:]
    images = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28)
    np.savez(work / "fmnist_test.npz", input=images, label=np.frombuffer(labels, np.uint8))
    calibration = np.load(data / "fmnist/calib200.npz")["images"][:N_CALIBRATION]
    np.savez(work / "fmnist_calib.npz", input=calibration)
    return work / "fmnist_test.npz", work / "fmnist_calib.npz"


def photos(data, work, name, class_of):
    folder = data / "imagenet_sample"
    test = sorted((folder / "test").glob("*.jpg"))
    write_labels(work / f"{name}.csv", [(path, class_of(int(path.name[:4]))) for path in test])
    calibration = every(sorted((folder / "calib").glob("*.jpg")), N_CALIBRATION)
    (work / f"{name}.txt").write_text("".join(f'"{path}"\n' for path in calibration))
    return work / f"{name}.csv", work / f"{name}.txt"


def lines(data, work, name, turned):
    """Lines with their text; or, every second turned by 180 degrees, with 0 or 1."""
    folder = data / "ocr_lines"
    rows = list(csv.reader(open(folder / "labels.csv", newline="")))[1:]
    samples = []
    (work / name).mkdir(exist_ok=True)
    for idx, (file, text) in enumerate(rows):
        picture = Image.open(folder / file).convert("RGB")
        (picture.rotate(180) if turned and idx % 2 else picture).save(work / name / file)
        samples.append((f"{name}/{file}", idx % 2 if turned else text))
    write_labels(work / f"{name}.csv", samples)
    (work / f"{name}.txt").write_text("".join(f"{path}\n" for path, _ in samples[:N_CALIBRATION]))
    return work / f"{name}.csv", work / f"{name}.txt"


def speech(data, work):
    """Utterances between silences, with a little noise, in frames of 512 samples after 64 of context. A frame is speech
    where the clean wave is above 2% of its loudest frame; pauses of at most 6 frames belong to the speech around them."""
    random = np.random.default_rng(0)
    samples = []
    (work / "speech").mkdir(exist_ok=True)
    for path in sorted((data / "speech").glob("*.wav")):
        with wave.open(str(path)) as file:
            rate, pcm = file.getframerate(), file.readframes(file.getnframes())
        clean = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
        moments = np.arange(int(len(clean) * 16000 / rate)) * rate / 16000
        clean = np.interp(moments, np.arange(len(clean)), clean).astype(np.float32)
        silence = np.zeros(9600, np.float32)
        clean = np.concatenate([silence, clean, silence])
        n = len(clean) // 512
        clean = clean[: n * 512]
        loudness = np.sqrt((clean.reshape(n, 512) ** 2).mean(1))
        noisy = clean + random.normal(0, 10**-2.5 * np.abs(clean).max(), len(clean)).astype(np.float32)
        noisy = np.concatenate([np.zeros(64, np.float32), noisy])
        frames = np.stack([noisy[idx * 512 : idx * 512 + 576] for idx in range(n)])
        label = (loudness > 0.02 * loudness.max()).astype(np.int64)
        spoken = np.flatnonzero(label)
        for before, after in zip(spoken, spoken[1:]):
            if after - before <= 6:
                label[before:after] = 1
        np.save(work / f"speech/{path.stem}.npy", frames[None])
        np.save(work / f"speech/{path.stem}_label.npy", label)
        samples.append((f"speech/{path.stem}.npy", f"speech/{path.stem}_label.npy"))
    write_labels(work / "speech.csv", samples)
    (work / "speech.txt").write_text("".join(f"{path}\n" for path, _ in samples))
    return work / "speech.csv", work / "speech.txt"


def files(models, work):
    """Files of this machine, up to 8 of each extension; the label is ONNX Runtime's float answer."""
    found = {}
    for root in ("/usr", "/etc"):
        for path in sorted(Path(root).rglob("*")):
            try:
                if path.suffix and not path.is_symlink() and path.is_file() and 64 < path.stat().st_size < 5_000_000:
                    found.setdefault(path.suffix.lower(), []).append(path)
            except OSError:
                continue
    chosen = [path for paths in found.values() if len(paths) >= 10 for path in every(paths, 8)]
    np.random.default_rng(0).shuffle(chosen)
    rows = np.full((min(len(chosen), 364), 2048), 256, np.int32)
    for row, path in zip(rows, chosen):
        content = path.read_bytes()
        head, tail = content.lstrip()[:1024], content.rstrip()[-1024:]
        row[: len(head)] = np.frombuffer(head, np.uint8)
        row[2048 - len(tail) :] = np.frombuffer(tail, np.uint8)
    session = onnxruntime.InferenceSession(models / "magika.onnx")
    label = session.run(None, {"bytes": rows})[0].argmax(1)
    np.savez(work / "files.npz", bytes=rows[N_CALIBRATION:], label=label[N_CALIBRATION:])
    np.savez(work / "files_calib.npz", bytes=rows[:N_CALIBRATION])
    return work / "files.npz", work / "files_calib.npz"


def main():
    qloupe, models, data, work = (Path(argument) for argument in sys.argv[1:5])
    work.mkdir(parents=True, exist_ok=True)
    makers = {f"fmnist_{kind}": lambda: fmnist(data, work) for kind in ("mbv2", "resnet", "vit", "lstm")} | {
        "mobilenetv1_super8": lambda: photos(data, work, "super8", super8),
        "efficientnet_lite0": lambda: photos(data, work, "imagenet", lambda index: index),
        "ppocr_v4_rec": lambda: lines(data, work, "lines", turned=False),
        "ppocr_v2_cls": lambda: lines(data, work, "turned", turned=True),
        "silero_vad_16k_sequence": lambda: speech(data, work),
        "magika": lambda: files(models, work),
    }
    print("| model | samples | metric | float | fp16 | int8 | flips of int8 |\n|---|---|---|---|---|---|---|")
    for model in sys.argv[5:] or makers:
        labels, calibration = makers[model]()
        recipe = work / f"{model}.toml"
        recipe.write_text(RECIPES["fmnist" if model.startswith("fmnist") else model])
        command = [qloupe, "evaluate", models / f"{model}.onnx", "--target", "onnxruntime", "--dataset", calibration]
        command += ["--recipe", recipe, "--labels", labels, "--json"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            print(f"| {model} | {run.stderr.strip().splitlines()[0]} |", flush=True)
            continue
        result = json.loads(run.stdout)
        scores = {score["precision"]: score for score in result["scores"]}
        # Exact lines are counted without spaces: the recogniser was not trained to keep them.
        metric = list(scores["float"]["metrics"])[1 if result["task"] == "ctc" else 0]
        figures = [f"{100 * score['metrics'][metric]['value']:.2f}" for score in scores.values()]
        cells = [model, result["n_samples"], metric, *figures, scores["int8"]["flips"]]
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Samples as arrays: pictures are preprocessed here once, and every tool gets the same .npy files.

Photos are calibrated on 64 of `imagenet_sample/calib`, at even distances. They are tested on `test`, and after those on
what is left of `calib`. Lines of text are calibrated on every third line and tested on all, each with its own width.
"""

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from accuracy_tasks import every, super8

N_CALIBRATION = 64
N_FMNIST = 2000
LINE_STEP = 3
Labelled = tuple[np.ndarray, int | str]


@dataclass(frozen=True)
class Samples:
    """Files of one sample each, `[1, C, H, W]`, and the right answers of the test samples."""

    folder: Path
    calibration: list[Path]
    test: list[Path]
    labels: list

    def first(self, n_test: int, limit: int | None) -> "Samples":
        """The first n test samples; with a limit no more samples than that of both kinds."""
        n_test = min(n_test, limit or n_test)
        return Samples(self.folder, self.calibration[:limit], self.test[:n_test], self.labels[:n_test])

    def list_of(self, which: str) -> Path:
        """A dataset.txt of the calibration or the test samples."""
        paths = getattr(self, which)
        path = self.folder / f"{which}.{len(paths)}.txt"
        if not path.exists():
            path.write_text("".join(f"{sample.name}\n" for sample in paths))
        return path


def photos(data: Path, make: Callable, class_of: Callable[[int], int]) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    """Calibration photos, and test photos with their classes."""
    pool = sorted((data / "imagenet_sample/calib").glob("*.jpg"))
    calibration = every(pool, N_CALIBRATION)
    test = sorted((data / "imagenet_sample/test").glob("*.jpg")) + [path for path in pool if path not in calibration]
    read = lambda path: make(Image.open(path).convert("RGB"))
    return [read(path) for path in calibration], ((read(path), class_of(int(path.name[:4]))) for path in test)


def chw(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


def cropped(picture: Image.Image, filter_: Image.Resampling) -> np.ndarray:
    """The middle 224x224 after the short side became 256."""
    factor = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), filter_)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    return np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)


def letterboxed(picture: Image.Image) -> np.ndarray:
    """320x320 with the picture in the middle, grey around it."""
    factor = 320 / max(picture.size)
    small = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (320, 320), (114, 114, 114))
    whole.paste(small, ((320 - small.width) // 2, (320 - small.height) // 2))
    return chw(np.asarray(whole, np.float32) / 255)


def line(path: Path) -> np.ndarray:
    """A line of text 48 high, in blue, green, red."""
    picture = Image.open(path).convert("RGB")
    picture = picture.resize((round(picture.width * 48 / picture.height), 48), Image.Resampling.BILINEAR)
    return chw(np.asarray(picture, np.float32)[:, :, ::-1] / 127.5 - 1)


def imagenet_samples(data: Path) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    return photos(data, lambda x: chw((cropped(x, Image.Resampling.BICUBIC) - 127) / 128), lambda index: index)


def super8_samples(data: Path) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    return photos(data, lambda x: chw(cropped(x, Image.Resampling.BILINEAR) / 127.5 - 1), super8)


def letterbox_samples(data: Path) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    return photos(data, letterboxed, lambda index: index)


def line_samples(data: Path) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    folder = data / "ocr_lines"
    rows = list(csv.reader((folder / "labels.csv").read_text().splitlines()))[1:]
    arrays = [line(folder / file) for file, _ in rows]
    return arrays[::LINE_STEP], zip(arrays, (text for _, text in rows))


def fmnist_samples(data: Path) -> tuple[list[np.ndarray], Iterable[Labelled]]:
    folder = data / "fmnist"
    normal = lambda images: ((images.astype(np.float32) / 255 - 0.2860) / 0.3530).astype(np.float32)
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    test = normal(np.frombuffer(images, np.uint8).reshape(-1, 1, 1, 28, 28)[:N_FMNIST])
    calibration = normal(np.load(folder / "calib200.npz")["images"][:N_CALIBRATION, None])
    return list(calibration), zip(test, map(int, labels))


MAKERS = {
    "fmnist": fmnist_samples,
    "imagenet": imagenet_samples,
    "letterbox": letterbox_samples,
    "lines": line_samples,
    "super8": super8_samples,
}


def write_samples(name: str, data: Path, folder: Path) -> None:
    folder.mkdir()
    calibration, test = MAKERS[name](data)
    for idx, array in enumerate(calibration):
        np.save(folder / f"calibration_{idx:04}.npy", array)
    labels = []
    for idx, (array, label) in enumerate(test):
        np.save(folder / f"test_{idx:04}.npy", array)
        labels.append(label)
    (folder / "labels.json").write_text(json.dumps(labels))


def prepare(name: str, data: Path, work: Path) -> Samples:
    """The arrays of a name, made if an earlier run has not left them."""
    folder = work / "samples" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            write_samples(name, data, Path(made) / name)
            (Path(made) / name).rename(folder)
    labels = json.loads((folder / "labels.json").read_text())
    return Samples(folder, sorted(folder.glob("calibration_*.npy")), sorted(folder.glob("test_*.npy")), labels)

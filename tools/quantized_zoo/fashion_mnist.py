"""Fashion-MNIST as the models of the zoo read it: float32 `[n, 1, 28, 28]`, `(x / 255 - 0.2860) / 0.3530`.

FASHION_MNIST is the folder of the four idx files, by default that of the Debian package dataset-fashion-mnist.
"""
import gzip, os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
FLOAT = ROOT / "testdata" / "models"
ZOO = ROOT / "testdata" / "quantized"
FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
MEAN, STD = np.float32(0.2860), np.float32(0.3530)


def images(split, n):
    """The first `n` pictures of `train` or `t10k`."""
    pixels = np.frombuffer(gzip.open(FOLDER / f"{split}-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    pixels = pixels.reshape(-1, 1, 28, 28)[:n].astype(np.float32)
    return (pixels / np.float32(255) - MEAN) / STD


def labels(split, n):
    """The classes of the first `n` pictures of `train` or `t10k`."""
    classes = np.frombuffer(gzip.open(FOLDER / f"{split}-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    return classes[:n].astype(np.int64)


def calibration():
    """The samples on which every tool of the zoo that calibrates does so."""
    return images("train", 128)

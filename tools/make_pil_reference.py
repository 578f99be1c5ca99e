#!/usr/bin/env python3
"""Writes testdata/pil: small images and what Pillow makes of them, the truth that decoding and resizing are tested against.

    pip install "pillow<13" numpy
    python3 tools/make_pil_reference.py        (the versions end up in testdata/pil/README.md)

Pillow 3.3 to 12 resize rows, then columns, and so do we; Pillow 13 turns that round where the height shrinks much more
than the width (its pull request 9549), which moves some pixels by a few levels.

resize/SOURCE.png                            a picture of odd size, RGB or L
resize/SOURCE_to_WxH_FILTER.png              Image.resize((W, H), FILTER) of it
decode/NAME.{png,jpg,bmp}                    one picture for each pixel format
decode/NAME_rgb.png, NAME_l.png              Image.open(NAME).convert("RGB"), convert("L")
"""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent / "testdata" / "pil"
SIZES = [(16, 16), (19, 13), (37, 11), (13, 41), (90, 61), (5, 70), (1, 1)]
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def picture(width: int, height: int, channels: int, seed: int) -> np.ndarray:
    """Waves, an edge and noise, so that every filter overshoots and rounds somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        wave = 127 + 110 * np.sin(x * (0.3 + 0.17 * c) + c) * np.cos(y * (0.2 + 0.11 * c))
        edge = np.where(x + y * (c + 1) > width * 0.8, 60, -60)
        planes.append(np.clip(wave + edge + rng.normal(0, 25, wave.shape), 0, 255))
    return np.stack(planes, -1).astype(np.uint8).squeeze()


def write_png16(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write for RGB."""
    height, width = values.shape[:2]
    colour = 0 if values.ndim == 2 else 2
    rows = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def make_resize() -> None:
    folder = ROOT / "resize"
    folder.mkdir(parents=True)
    for name, channels in [("rgb_37x23", 3), ("l_31x41", 1)]:
        width, height = map(int, name.split("_")[1].split("x"))
        image = Image.fromarray(picture(width, height, channels, seed=channels))
        image.save(folder / f"{name}.png")
        for size in SIZES:
            for filter_name, resample in FILTERS.items():
                image.resize(size, resample).save(folder / f"{name}_to_{size[0]}x{size[1]}_{filter_name}.png")


def make_decode() -> None:
    folder = ROOT / "decode"
    folder.mkdir(parents=True)
    rgb = Image.fromarray(picture(21, 17, 3, seed=5))
    gray = Image.fromarray(picture(21, 17, 1, seed=6))
    alpha = Image.fromarray(picture(21, 17, 1, seed=7))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    la = gray.copy()
    la.putalpha(alpha)
    palette = rgb.quantize(16)
    smooth = Image.fromarray(picture(160, 120, 3, seed=8)).resize((75, 53), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6

    rgb.save(folder / "png_rgb8.png")
    gray.save(folder / "png_gray8.png")
    rgba.save(folder / "png_rgba8.png")
    la.save(folder / "png_gray_alpha8.png")
    palette.save(folder / "png_palette.png")
    palette.save(folder / "png_palette_transparent.png", transparency=3)
    gray.convert("1").save(folder / "png_bilevel.png")
    wide = np.random.default_rng(9).integers(0, 65536, (17, 21, 3))
    write_png16(folder / "png_rgb16.png", wide)
    write_png16(folder / "png_gray16.png", wide[..., 0])
    rgb.save(folder / "bmp_rgb.bmp")
    gray.save(folder / "bmp_gray.bmp")
    palette.save(folder / "bmp_palette.bmp")
    smooth.save(folder / "jpg_420.jpg", quality=90, subsampling="4:2:0")
    smooth.save(folder / "jpg_444.jpg", quality=90, subsampling="4:4:4")
    smooth.save(folder / "jpg_progressive.jpg", quality=75, progressive=True)
    smooth.convert("L").save(folder / "jpg_gray.jpg", quality=90)
    smooth.save(folder / "jpg_exif_rotated.jpg", quality=90, subsampling="4:4:4", exif=exif)
    smooth.convert("CMYK").save(folder / "jpg_cmyk.jpg", quality=90)
    for path in sorted(folder.iterdir()):
        image = Image.open(path)
        if image.mode == "I;16":
            # convert() clips 16-bit gray at 255; we keep the high byte, as Pillow itself does for 16-bit RGB.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image.convert("RGB").save(folder / f"{path.stem}_rgb.png")
        image.convert("L").save(folder / f"{path.stem}_l.png")


def main() -> None:
    if int(PIL.__version__.split(".")[0]) >= 13:
        raise SystemExit(f"Pillow {PIL.__version__} resizes in another order, install pillow<13")
    shutil.rmtree(ROOT, ignore_errors=True)
    make_resize()
    make_decode()
    (ROOT / "README.md").write_text(
        "# What Pillow makes of small images\n\n"
        f"Written by `tools/make_pil_reference.py` with Pillow {PIL.__version__} and NumPy {np.__version__}.\n"
        "One deliberate difference: 16-bit gray keeps its high byte, where Pillow's convert() clips at 255.\n"
        "The pictures are synthetic and under the licence of this project.\n"
    )


if __name__ == "__main__":
    main()

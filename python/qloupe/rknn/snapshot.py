"""The files of ``accuracy_analysis``: the vendor's table, and every value as .npy in its folders."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Dict, Optional

from ..quantized import Quantized
from ..report import Report
from ..samples import Samples

#: The columns of the vendor's table; what each layer does to the outputs has none.
_VIEWS = ("entire", "local")
#: The vendor's folders, by ours.
_FOLDERS = {"golden": "golden", "test": "simulator"}


def analyze(quantized: Quantized, samples: Samples, output_dir: Optional[Path]) -> Report:
    """Compares, and writes ``error_analysis.txt``, ``map_name_to_file.txt``, ``golden/npy`` and ``simulator/npy``.

    Only the first sample's values are written. Without a folder only the numbers are computed.
    """
    if output_dir is None:
        return quantized.analyze(samples, views=_VIEWS, costs=False)
    dump = output_dir / ".dump"
    shutil.rmtree(dump, ignore_errors=True)
    try:
        if len(samples) == 1:
            report = quantized.analyze(samples, views=_VIEWS, costs=False, dump=dump)
        else:
            quantized.analyze(samples.first(1), views=("entire",), costs=False, dump=dump)
            report = quantized.analyze(samples, views=_VIEWS, costs=False)
        names = _arrange(dump, output_dir)
    finally:
        shutil.rmtree(dump, ignore_errors=True)
    width = max((len(name) for name in names), default=0)
    lines = [f"{name:<{width}}    {file}" for name, file in names.items()]
    (output_dir / "map_name_to_file.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report.save(output_dir / "error_analysis.txt")
    return report


def write_text_dumps(output_dir: Path) -> None:
    """The same values as the vendor's text files: one number a line, no shape."""
    import numpy as np

    for folder in _FOLDERS.values():
        for file in (output_dir / folder / "npy").glob("*.npy"):
            np.savetxt(output_dir / folder / f"{file.stem}.txt", np.load(file).ravel(), fmt="%f")


def _arrange(dump: Path, output_dir: Path) -> Dict[str, str]:
    """Moves a dump to the vendor's places; the file of each layer, without its extension."""
    index = json.loads((dump / "index.json").read_text(encoding="utf-8"))
    names: Dict[str, str] = {}
    taken = set()
    for name, entry in index["sample_0"].items():
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:150]
        while stem in taken:
            stem += "_"
        taken.add(stem)
        names[name] = stem
        for ours, theirs in _FOLDERS.items():
            folder = output_dir / theirs / "npy"
            folder.mkdir(parents=True, exist_ok=True)
            (dump / "sample_0" / ours / entry["file"]).replace(folder / f"{stem}.npy")
    return names

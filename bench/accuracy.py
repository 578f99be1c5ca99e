#!/usr/bin/env python3
"""Accuracy of qloupe beside that of other quantizers: same calibration samples, same test samples, same evaluation.

    cargo build --release -p qloupe-cli
    QLOUPE_MODELS=MODELS python3 bench/accuracy.py --data-dir DATA --cache peers.json --out table.md
    QLOUPE_MODELS=MODELS python3 bench/accuracy.py --data-dir DATA --cache peers.json --tools qloupe --models fmnist_vit

Makes a virtual environment (--venv) with its packages and runs itself there. Models and samples that are missing are said
and skipped. Arrays and the peers' models stay in --work. What a peer once gave is in --cache, and is printed beside qloupe's
even when --tools leaves the peer out; delete the file, and `peers` in --work, to measure anew.

Every QDQ model runs in ONNX Runtime, a plan for another target in `qloupe infer --plan`. accuracy_samples.py says which
samples are calibrated on and tested on, accuracy_metrics.py what the figures are. Seconds and memory are those of the whole
process that quantizes, of a peer with Python and its imports. At the end stand the limits that qloupe has to keep.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_venv import enter_venv

PACKAGES = ["nncf", "numpy", "onnx", "onnxruntime", "pillow"]
ROOT = Path(__file__).resolve().parent.parent
N_PHOTOS = 250


class Cache:
    """Rows of peers in a JSON file, by model, numbers of samples and row."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: dict[str, dict] = json.loads(path.read_text()) if path and path.exists() else {}

    def add(self, key: str, row: dict) -> None:
        self.rows[key] = row
        if self.path:
            written = self.path.with_suffix(".new")
            written.write_text(json.dumps(self.rows, indent=1))
            written.replace(self.path)

    def of(self, prefix: str) -> list[dict]:
        return [row for key, row in self.rows.items() if key.startswith(prefix)]


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


class Accuracy:
    """Measures the tasks that the options choose."""

    def __init__(self, args: argparse.Namespace, built: Path):
        import accuracy_peers
        import accuracy_runs

        self.args, self.built, self.runs = args, built, accuracy_runs
        self.cache = Cache(args.cache)
        self.qloupe = accuracy_runs.Qloupe(args.qloupe)
        wanted = [peer for peer in accuracy_peers.PEERS if not args.tools or peer.tool in args.tools]
        self.peers = [peer for peer in wanted if peer.is_present()]
        for peer in wanted:
            if peer not in self.peers:
                say(f"{peer.tool}: not installed, skipped")

    def subjects(self) -> Iterator:
        """The models there are, with their samples."""
        from accuracy_samples import prepare
        from accuracy_tasks import TASKS

        for task in TASKS:
            model = self.args.models_dir / f"{task.model}.onnx"
            if self.args.models and task.model not in self.args.models:
                continue
            if not model.exists():
                say(f"{model}: not there, skipped")
                continue
            try:
                samples = prepare(task.samples, self.args.data_dir, self.args.work)
            except OSError as error:
                say(f"{task.model}: no samples, skipped: {error}")
                continue
            n_test = self.args.photos if task.has_photos() else len(samples.test)
            samples = samples.first(n_test, self.args.limit_images)
            yield self.runs.Subject(task, model, samples, self.args.work / "peers", self.built)

    def peer_rows(self, subject) -> list[dict]:
        """The rows of the cache, after those that are missing were measured."""
        prefix = f"{subject.task.model} {len(subject.samples.calibration)}+{len(subject.samples.test)} "
        for peer in self.peers:
            for algorithm in peer.algorithms:
                for method in self.args.methods:
                    row = self.runs.Row(peer.tool, algorithm, method)
                    key = f"{prefix}{row.name()}"
                    if key not in self.cache.rows:
                        self.cache.add(key, subject.measure_peer(peer, row))
                        say(f"{subject.task.model} {json.dumps(self.cache.rows[key])}")
        return [row for row in self.cache.of(prefix) if row["method"] in self.args.methods]

    def qloupe_rows(self, subject) -> Iterator[dict]:
        known = self.qloupe.algorithms(subject.model)
        for algorithm in self.args.algorithms or known:
            if algorithm not in known:
                say(f"qloupe: unknown algorithm {algorithm}, skipped; it knows {', '.join(known)}")
                continue
            for target in self.args.target or subject.task.targets:
                for method in self.args.methods:
                    for level in self.args.levels:
                        row = self.runs.Row("qloupe", algorithm, method, target, level)
                        yield subject.measure_qloupe(self.qloupe, row)

    def rows(self, subject) -> list[dict]:
        rows = [subject.float_figures(), *self.peer_rows(subject)]
        if not self.args.tools or "qloupe" in self.args.tools:
            for row in self.qloupe_rows(subject):
                say(f"{subject.task.model} {json.dumps(row)}")
                rows.append(row)
        return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = os.environ.get("QLOUPE_MODELS")
    add = parser.add_argument
    add("--qloupe", type=Path, default=ROOT / "target/release/qloupe", help="the program")
    add("--models-dir", type=Path, default=models, required=not models, help="the folder of the models [QLOUPE_MODELS]")
    add("--data-dir", type=Path, help="the folder of the samples [default: data beside the models]")
    add("--work", type=Path, default=ROOT / "target/accuracy", help="where arrays and the peers' models stay")
    add("--keep", type=Path, metavar="FOLDER", help="keep what qloupe builds there")
    add("--venv", type=Path, default=ROOT / "target/accuracy-venv", help="the virtual environment")
    add("--tools", nargs="*", help="only these: qloupe, onnxruntime, nncf")
    add("--models", nargs="*", help="only these models")
    add("--algorithms", nargs="*", help="qloupe's algorithms [default: all that it knows]")
    add("--methods", nargs="*", choices=["layer", "channel"], default=["layer", "channel"], help="scales of weights")
    add("--levels", nargs="*", type=int, default=[0, 3], help="qloupe's optimization levels")
    add("--target", nargs="*", help="qloupe's targets [default: onnxruntime, and rk3588 for the detector]")
    add("--photos", type=int, default=N_PHOTOS, help="test photos; above 250 also those not calibrated on, 436 in all")
    add("--limit-images", type=int, metavar="N", help="at most N calibration and N test samples, to try something")
    add("--cache", type=Path, help="JSON file of the peers' rows, read and added to")
    add("--out", type=Path, help="write the tables as Markdown")
    add("--json", type=Path, help="write every figure as JSON")
    args = parser.parse_args()
    args.data_dir = args.data_dir or args.models_dir.parent / "data"
    args.work = args.work.resolve()
    return args


def main(args: argparse.Namespace) -> None:
    import accuracy_limits
    import accuracy_report

    found, text = {}, []
    with tempfile.TemporaryDirectory() as built:
        accuracy = Accuracy(args, args.keep or Path(built))
        for subject in accuracy.subjects():
            rows = accuracy.rows(subject)
            found[subject.task.model] = rows
            text.append(accuracy_report.table(subject.task, subject.samples, rows))
            print(text[-1], flush=True)
    text.append(accuracy_limits.verdicts(found))
    print(text[-1])
    if args.out:
        args.out.write_text("\n".join(text))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    arguments = parse()
    enter_venv(arguments.venv, PACKAGES)
    main(arguments)

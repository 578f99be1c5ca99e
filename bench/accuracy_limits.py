"""The limits that qloupe has to keep, judged on the rows of accuracy.py.

A limit is judged on what a user gets: the algorithm `auto`, `min_max` as long as there is none, at the highest level
that was measured. Where it is missed, the best row stands beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PHOTO_MODELS = ("mobilenetv1_super8", "efficientnet_lite0")
SQNR_MARGIN_DB = 0.5
PEER_NAMES = {"kl_divergence": "entropy", "normal": "min_max"}
DEFAULTS = ("auto", "min_max")


@dataclass(frozen=True)
class Limit:
    """A bound on a figure of some models' rows. `method` None: every method."""

    models: tuple[str, ...]
    method: str | None
    what: str
    figure: Callable[[dict], float]
    bound: float
    at_least: bool
    is_goal: bool = False

    def holds(self, row: dict) -> bool:
        figure = self.figure(row)
        return figure >= self.bound if self.at_least else figure <= self.bound

    def best(self, rows: list[dict]) -> dict:
        return (max if self.at_least else min)(rows, key=self.figure)

    def text(self) -> str:
        return f"{self.what} {'at least' if self.at_least else 'at most'} {self.bound:g}"


def drop(row: dict) -> float:
    return row["float_accuracy"] - row["accuracy"]


def agreement(row: dict) -> float:
    return row["agreement"]


def lost(row: dict) -> float:
    return row["lost"]


def kept(row: dict) -> float:
    """The lines that float reads right and that are still right, in percent."""
    return 100 * (1 - row["lost"] / row["n_right"])


def score_cosine(row: dict) -> float:
    return row["score_cosine"]


FMNIST = ("fmnist_mbv2", "fmnist_resnet", "fmnist_vit", "fmnist_lstm")
REC = ("ppocr_v4_rec",)
LIMITS = (
    Limit(PHOTO_MODELS, "layer", "drop in points", drop, 2.0, False),
    Limit(PHOTO_MODELS, "layer", "answers as float in %", agreement, 94.0, True),
    Limit(PHOTO_MODELS, "channel", "drop in points", drop, 1.2, False),
    Limit(PHOTO_MODELS, "channel", "answers as float in %", agreement, 96.0, True),
    Limit(FMNIST, None, "drop in points", drop, 0.5, False),
    Limit(REC, None, "lines lost", lost, 2, False),
    Limit(("efficientnet_lite0",), "channel", "answers as float in %", agreement, 99.0, True, True),
    Limit(("mobilenetv1_super8",), "channel", "answers as float in %", agreement, 99.6, True, True),
    Limit(("yolov8n_320",), "channel", "score cosine", score_cosine, 0.954, True, True),
    Limit(REC, "channel", "lines kept in %", kept, 99.0, True, True),
)


def verdict(kind: str, where: str, holds: bool, text: str) -> str:
    return f"- {kind} {'kept' if holds else '**missed**'}: {where}: {text}"


def of_qloupe(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["tool"] == "qloupe" and "error" not in row]


def default_of(rows: list[dict]) -> dict:
    """The row that a user gets."""
    rank = lambda row: DEFAULTS.index(row["algorithm"]) if row["algorithm"] in DEFAULTS else len(DEFAULTS)
    return min(rows, key=lambda row: (rank(row), -row["level"]))


def groups(rows: list[dict]) -> Iterator[tuple[str, str, list[dict]]]:
    """The rows of qloupe by target and method."""
    for target, method in sorted({(row["target"], row["method"]) for row in of_qloupe(rows)}):
        yield target, method, [r for r in of_qloupe(rows) if (r["target"], r["method"]) == (target, method)]


def way(row: dict) -> str:
    return f"{row['algorithm']} level {row['level']}"


def judge_limit(limit: Limit, model: str, rows: list[dict]) -> Iterator[str]:
    for target, method, group in groups(rows):
        if limit.method not in (None, method):
            continue
        row = default_of(group)
        text = f"{limit.text()}, {way(row)} has {limit.figure(row):.4g}"
        if not limit.holds(row):
            best = limit.best(group)
            text += f", the best is {limit.figure(best):.4g} ({way(best)})"
        yield verdict("goal" if limit.is_goal else "limit", f"{model}, {target}, {method}", limit.holds(row), text)


def judge_algorithms(model: str, rows: list[dict]) -> Iterator[str]:
    """Every algorithm beside the same one of ONNX Runtime, at the highest level."""
    peers = {
        (row["algorithm"], row["method"]): row["sqnr_db"]
        for row in rows
        if row["tool"].startswith("onnxruntime") and "error" not in row
    }
    for target, method, group in groups(rows):
        top = [row for row in group if row["level"] == max(row["level"] for row in group)]
        for row in top:
            peer = peers.get((PEER_NAMES.get(row["algorithm"], row["algorithm"]), method))
            if peer is not None and target == "onnxruntime":
                holds = row["sqnr_db"] >= peer - SQNR_MARGIN_DB
                text = f"{way(row)} has {row['sqnr_db']:.1f} dB, ONNX Runtime {peer:.1f} dB"
                yield verdict("limit", f"{model}, {method}", holds, text)
        yield from judge_auto(f"{model}, {target}, {method}", top)


def judge_auto(where: str, rows: list[dict]) -> Iterator[str]:
    """`auto` beside the best of the other algorithms."""
    autos = [row for row in rows if row["algorithm"] == "auto"]
    single = [row for row in rows if row["algorithm"] != "auto"]
    if autos and single:
        best = max(single, key=lambda row: row["sqnr_db"])
        holds = autos[0]["sqnr_db"] >= best["sqnr_db"] - SQNR_MARGIN_DB
        text = f"auto has {autos[0]['sqnr_db']:.1f} dB, {way(best)} {best['sqnr_db']:.1f} dB"
        yield verdict("limit", where, holds, text)


def verdicts(found: dict[str, list[dict]]) -> str:
    """Which limits and goals hold, over the rows of every model."""
    lines = []
    for model, rows in found.items():
        for limit in LIMITS:
            if model in limit.models:
                lines += judge_limit(limit, model, rows)
        lines += judge_algorithms(model, rows)
    lines.sort(key=lambda line: line.startswith("- goal"))
    return "\n".join(["### Limits", "", *(lines or ["No row of qloupe."]), ""])

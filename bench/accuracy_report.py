"""The rows of accuracy.py as Markdown: one table for each model."""

from accuracy_samples import Samples
from accuracy_tasks import Task

HEAD = {"tool": "tool", "target": "target", "algorithm": "algorithm", "method": "weights", "level": "level"}
ANSWERS = {"accuracy": "{}, %", "drop": "drop, points", "agreement": "as float, %"}
DETECTOR = {
    "score_cosine": "score cosine",
    "strong_cosine": "of the 20 strongest",
    "recall": "top-10 anchors kept, %",
    "ratio": "highest score / float's",
    "ratio_worst": "worst",
}
KINDS = {
    "classes": {key: title.format("top-1") for key, title in ANSWERS.items()},
    "lines": {key: title.format("exact lines") for key, title in ANSWERS.items()} | {"lost": "lines lost"},
    "detector": DETECTOR,
}
COST = {"sqnr_db": "output, dB", "seconds": "seconds", "cpu_seconds": "processor s", "peak_mb": "MB"}
DIGITS = {"score_cosine": 4, "strong_cosine": 4, "ratio": 3, "ratio_worst": 3, "drop": 2, "accuracy": 2, "agreement": 2}


def cell(row: dict, key: str) -> str:
    value = row.get(key)
    if value in (None, ""):
        return "-"
    if key == "peak_mb":
        return f"{value:.0f}"
    return f"{value:.{DIGITS.get(key, 1)}f}" if isinstance(value, float) else str(value)


def with_differences(row: dict) -> dict:
    """The row with what is computed from its figures."""
    more = {"peak_mb": row["peak_bytes"] / 1e6} if "peak_bytes" in row else {}
    if "accuracy" in row and row["tool"] != "float":
        more["drop"] = row["float_accuracy"] - row["accuracy"]
    return row | more


def table(task: Task, samples: Samples, rows: list[dict]) -> str:
    """The table of one model, per layer before per channel, with the errors of tools below it."""
    several = len({row["target"] for row in rows if row["target"]}) > 1
    columns = {key: title for key, title in HEAD.items() if several or key != "target"} | KINDS[task.kind] | COST
    lines = [f"### {task.model}", ""]
    lines += [f"{len(samples.calibration)} calibration samples, {len(samples.test)} test samples.", ""]
    lines += [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    for row in sorted(rows, key=lambda row: ["", "layer", "channel"].index(row["method"])):
        if "error" not in row:
            row = with_differences(row)
            lines.append(f"| {' | '.join(cell(row, key) for key in columns)} |")
    failed = [row for row in rows if "error" in row]
    lines += ["", *(f"{row['tool']}, {row['algorithm']}, {row['method']}: {row['error']}\n" for row in failed)]
    return "\n".join(lines)

"""How good quantized outputs are: beside the right answers, and beside the float outputs.

Outputs are lists of one array a sample. Shares are in percent. Every function takes the reference first.
"""

import math

import numpy as np

N_STRONGEST = 20
N_ANCHORS = 10
N_BOX_ROWS = 4

Outputs = list[np.ndarray]


def sqnr_db(reference: Outputs, test: Outputs) -> float:
    """Signal over error of all samples and elements together, in dB."""
    signal = noise = 0.0
    for r, t in zip(reference, test, strict=True):
        signal += float(np.square(r, dtype=np.float64).sum())
        noise += float(np.square(r.astype(np.float64) - t).sum())
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf if noise == 0 else -math.inf


def share(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def answers(outputs: Outputs) -> list[int]:
    return [int(np.argmax(output)) for output in outputs]


def texts(outputs: Outputs, characters: str) -> list[str]:
    """Greedy CTC: index 0 is the blank, then the lines of `characters`. The space, which is last, is left out."""
    names = ["", *characters.splitlines(), ""]
    found = []
    for output in outputs:
        best = output.reshape(-1, output.shape[-1]).argmax(1)
        kept = [idx for at, idx in enumerate(best) if at == 0 or best[at - 1] != idx]
        found.append("".join(names[idx] for idx in kept))
    return found


def judge_answers(reference: list, test: list, labels: list) -> dict[str, float]:
    right = [answer == label for answer, label in zip(test, labels, strict=True)]
    was_right = [answer == label for answer, label in zip(reference, labels, strict=True)]
    return {
        "float_accuracy": share(was_right),
        "accuracy": share(right),
        "agreement": share([r == t for r, t in zip(reference, test, strict=True)]),
        "lost": sum(before and not now for before, now in zip(was_right, right)),
        "n_right": sum(was_right),
    }


def classes(reference: Outputs, test: Outputs, labels: list, characters: str) -> dict[str, float]:
    """Top-1."""
    return judge_answers(answers(reference), answers(test), labels)


def lines(reference: Outputs, test: Outputs, labels: list, characters: str) -> dict[str, float]:
    """Lines that are exact without spaces. `lost`: right in float and wrong now."""
    labels = [label.replace(" ", "") for label in labels]
    return judge_answers(texts(reference, characters), texts(test, characters), labels)


def cosine(reference: np.ndarray, test: np.ndarray) -> float:
    r, t = reference.ravel().astype(np.float64), test.ravel().astype(np.float64)
    norm = float(np.linalg.norm(r) * np.linalg.norm(t))
    return float(r @ t) / norm if norm else float(not r.any() and not t.any())


def strongest_anchors(scores: np.ndarray) -> set[int]:
    """The anchors of the highest scores. One of score 0 is none."""
    best = scores.max(0)
    return {int(idx) for idx in np.argsort(-best, kind="stable")[:N_ANCHORS] if best[idx] > 0}


def detector(reference: Outputs, test: Outputs, labels: list, characters: str) -> dict[str, float]:
    """Scores, the rows after the box, beside those of float.

    `score_cosine` is the mean over the images. On the images with the highest float scores: their cosine, the share of
    the float model's best anchors that are among the best now, and the highest score over float's (mean, worst image).
    """
    pairs = [(r[0, N_BOX_ROWS:], t[0, N_BOX_ROWS:]) for r, t in zip(reference, test, strict=True)]
    strongest = sorted(pairs, key=lambda pair: -float(pair[0].max()))[:N_STRONGEST]
    recalls = [len(strongest_anchors(r) & strongest_anchors(t)) / N_ANCHORS for r, t in strongest]
    ratios = [float(t.max() / r.max()) for r, t in strongest]
    return {
        "score_cosine": float(np.mean([cosine(r, t) for r, t in pairs])),
        "strong_cosine": float(np.mean([cosine(r, t) for r, t in strongest])),
        "recall": 100 * float(np.mean(recalls)),
        "ratio": float(np.mean(ratios)),
        "ratio_worst": min(ratios),
    }


KINDS = {"classes": classes, "lines": lines, "detector": detector}


def judge(kind: str, reference: Outputs, test: Outputs, labels: list, characters: str) -> dict[str, float]:
    """Every figure of a kind of task, with the pooled SQNR of the output."""
    return {"sqnr_db": sqnr_db(reference, test)} | KINDS[kind](reference, test, labels, characters)

"""The tasks that accuracy.py measures: which model, on which samples, judged how."""

from dataclasses import dataclass

SUPER8 = [  # Classes of mobilenetv1_super8 by ImageNet index; the last class is the rest.
    [(0, 6), (389, 397)],
    [(7, 24), (80, 100), (127, 146)],
    [(25, 68)],
    [(151, 268)],
    [(101, 106), (147, 150), (269, 299), (330, 388)],
    [(69, 79), (107, 126), (300, 329)],
    [(924, 969), (984, 998)],
]


@dataclass(frozen=True)
class Task:
    """A model with its samples. `kind` says what its output is: `classes`, `lines` (of text) or `detector`.

    `samples` names a maker in accuracy_samples.py; tasks of one name share their arrays. `transformer` is told to tools
    that ask for it.
    """

    model: str
    samples: str
    kind: str
    targets: tuple[str, ...] = ("onnxruntime",)
    transformer: bool = False

    def has_photos(self) -> bool:
        return self.samples in ("imagenet", "letterbox", "super8")


TASKS = (
    Task("mobilenetv1_super8", "super8", "classes"),
    Task("efficientnet_lite0", "imagenet", "classes"),
    Task("fmnist_mbv2", "fmnist", "classes"),
    Task("fmnist_resnet", "fmnist", "classes"),
    Task("fmnist_vit", "fmnist", "classes", transformer=True),
    Task("fmnist_lstm", "fmnist", "classes"),
    Task("ppocr_v4_rec", "lines", "lines", transformer=True),
    Task("yolov8n_320", "letterbox", "detector", targets=("onnxruntime", "rk3588")),
)


def super8(index: int) -> int:
    """The class of mobilenetv1_super8 that an ImageNet class belongs to."""
    found = [idx for idx, ranges in enumerate(SUPER8) if any(a <= index <= b for a, b in ranges)]
    return found[0] if found else len(SUPER8)


def every(items: list, n: int) -> list:
    """n items at even distances."""
    return [items[idx * len(items) // n] for idx in range(n)]

"""The parts of a report as typed data: layers, network outputs, findings, and what each holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Dict, Mapping, Optional, Tuple

#: Metrics by id.
Metrics = Mapping[str, float]
#: Views by id.
Views = Mapping[str, Metrics]

#: The views that give one set of metrics for a layer; ``alone`` and ``rescued`` give one for each network output.
VIEWS = ("entire", "local", "tensor")


class Measured:
    """What has errors in several views."""

    #: Errors by view and metric.
    views: Views
    #: Everything, as in report.json.
    data: Mapping[str, Any]

    def metric(self, metric: str = "sqnr_db", view: str = "entire") -> Optional[float]:
        """A number; None where it was not measured."""
        return self.views.get(view, {}).get(metric)

    def interval(self, metric: str = "sqnr_db", view: str = "entire") -> Optional[Tuple[float, float]]:
        """The 95% confidence interval of the mean over samples; None for fewer than two samples, and where one is infinite.

        It is no interval of a figure that is pooled or the worst of all samples.
        """
        entry = self.data.get("views", {}).get(view, {}).get(metric, {})
        low, high = entry.get("mean_low"), entry.get("mean_high")
        return None if low is None or high is None else (number(low), number(high))


@dataclass(frozen=True)
class Effect:
    """What a unit does to the network outputs; figures are the mean over outputs and their slices."""

    #: The part of its noise in the sum over all units, each alone, 0 to 1.
    share: float
    #: Its noise alone, relative to the energy of the outputs.
    noise: float
    #: Decibels of SQNR that are won without its error; negative where other errors make up for it.
    gain_db: float
    #: False where both figures are first-order estimates: then ``alone`` and ``rescued`` of the layer are empty.
    is_exact: bool
    #: ``noise`` as it was estimated; None where no estimate was made.
    estimated_noise: Optional[float]
    #: ``gain_db`` as it was estimated; None where no estimate was made.
    estimated_gain_db: Optional[float]


@dataclass(frozen=True)
class Cause:
    """One part of a unit's local error."""

    #: ``weight_rounding``, ``input_clipping``, ..: docs/report.schema.md lists them.
    source: str
    #: The part of the local error's energy; parts may make up for each other.
    share: float
    #: What of this share plain ranges, a scale for each channel or another precision would avoid.
    avoidable: float
    #: The local error with this source alone.
    sqnr_db: float
    #: Which channels, samples, elements; empty where there is nothing to tell.
    detail: str


@dataclass(frozen=True)
class Flips:
    """Answers of the golden and of the tested scores side by side: a class at one position of one sample each."""

    #: Answers that were compared.
    n: int
    #: Answers whose class with the largest score changed.
    top1: int
    #: Answers whose golden class is not among the five largest any more; None for five classes or fewer.
    top5: Optional[int]
    #: Tested minus golden score of the golden class, the mean over answers.
    mean_score_shift: float


@dataclass(frozen=True)
class Layer(Measured):
    """One value of the original graph."""

    #: Named as in the ONNX file.
    name: str
    op_type: str
    #: The node that produces it; empty for a network input.
    node: str
    #: What the target stores it in.
    dtype: str
    shape: Tuple[int, ...]
    scale: Tuple[float, ...]
    zero_point: Tuple[int, ...]
    #: The range that was calibrated.
    range: Optional[Tuple[float, float]]
    #: Why there are no numbers.
    reason: Optional[str]
    #: The value whose row stands for this one.
    fused_into: Optional[str]
    views: Views
    #: What the unit does to the network outputs; None where that was not measured.
    effect: Optional[Effect]
    #: The network outputs with this unit's error alone, by name; empty where that was not measured.
    alone: Views
    #: The network outputs with every error but this unit's, by name.
    rescued: Views
    #: The answers that this unit's error alone changes, by network output or slice of one that looks like scores of classes.
    flips: Mapping[str, Flips]
    #: What the local error is made of, the largest part first.
    causes: Tuple[Cause, ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Output(Measured):
    """A network output, and the parts of it that mean different things."""

    name: str
    shape: Tuple[int, ...]
    #: All of the tested values are 0 and some golden value is not.
    dead: bool
    reason: Optional[str]
    views: Views
    #: Boxes, scores: each judged by itself; entries as in report.json.
    slices: Tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Action:
    """An edit of the plan that a finding proposes."""

    #: ``set_range``, ``refit_weights``, ``set_precision``, ``requantize`` or ``rescale_concat``.
    kind: str
    #: The value it is about; None where it is about the whole model.
    value: Optional[str]
    #: Everything of it, as in report.json.
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """What an action brought when it was made and run."""

    #: Its number for :meth:`qloupe.Fixes.apply`, from 1.
    number: int
    #: The SQNR in dB before, the mean over outputs and their slices.
    before_db: float
    #: The same after.
    after_db: float
    #: The difference.
    gain_db: float
    #: The worst output, or slice of one, before.
    worst_before_db: float
    #: The same after.
    worst_after_db: float
    #: The part of all multiply-accumulates that it takes out of the integers, 0 to 1.
    cost: float


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    id: str
    #: ``error``, ``warning`` or ``info``.
    severity: str
    #: The value it is about; None where it is about the whole model.
    layer: Optional[str]
    #: The network output it is about, where it is about one.
    output: Optional[str]
    cause: str
    evidence: str
    fix: str
    #: Decibels of SQNR at the network outputs that are won without it; None where that is not known.
    effect_db: Optional[float]
    #: What :meth:`qloupe.Quantized.try_fixes` tries; None where only the user can do it.
    action: Optional[Action]
    #: What that brought; None where it was not tried.
    tried: Optional[Tried]


def number(value: Any) -> float:
    """A number of report.json: NaN and the infinities are strings there."""
    return float(value)


def maybe_number(value: Any) -> Optional[float]:
    """The same, for a number that may be absent."""
    return None if value is None else float(value)


def _values(metrics: Mapping[str, Any]) -> Dict[str, float]:
    return {metric: number(value["value"]) for metric, value in metrics.items()}


def _views(entry: Mapping[str, Any]) -> Views:
    views = entry.get("views", {})
    return {view: _values(views[view]) for view in VIEWS if views.get(view)}


def _by_output(entry: Mapping[str, Any], view: str) -> Views:
    return {output: _values(metrics) for output, metrics in entry.get("views", {}).get(view, {}).items()}


def _effect(entry: Mapping[str, Any]) -> Optional[Effect]:
    effect = entry.get("effect")
    if effect is None:
        return None
    return Effect(
        share=number(effect["share"]),
        noise=number(effect["noise"]),
        gain_db=number(effect["gain_db"]),
        is_exact=effect["is_exact"],
        estimated_noise=maybe_number(effect.get("estimated_noise")),
        estimated_gain_db=maybe_number(effect.get("estimated_gain_db")),
    )


def _cause(entry: Mapping[str, Any]) -> Cause:
    return Cause(
        source=entry["source"],
        share=number(entry["share"]),
        avoidable=number(entry.get("avoidable", 0.0)),
        sqnr_db=number(entry["sqnr_db"]),
        detail=entry.get("detail", ""),
    )


def _flips(entry: Mapping[str, Any]) -> Flips:
    return Flips(
        n=entry["n"],
        top1=entry["top1"],
        top5=entry.get("top5"),
        mean_score_shift=number(entry["mean_score_shift"]),
    )


def layer_of(entry: Mapping[str, Any]) -> Layer:
    """A layer of report.json."""
    bounds = entry.get("range")
    return Layer(
        name=entry["name"],
        op_type=entry["op_type"],
        node=entry["node"],
        dtype=entry["dtype"],
        shape=tuple(entry["shape"]),
        scale=tuple(entry["scale"]),
        zero_point=tuple(entry["zero_point"]),
        range=None if bounds is None else (number(bounds["min"]), number(bounds["max"])),
        reason=entry.get("reason"),
        fused_into=entry.get("fused_into"),
        views=_views(entry),
        effect=_effect(entry),
        alone=_by_output(entry, "alone"),
        rescued=_by_output(entry, "rescued"),
        flips={part: _flips(flips) for part, flips in entry.get("flips", {}).items()},
        causes=tuple(_cause(cause) for cause in entry.get("causes", ())),
        data=entry,
    )


def output_of(entry: Mapping[str, Any]) -> Output:
    """A network output of report.json."""
    return Output(
        name=entry["name"],
        shape=tuple(entry["shape"]),
        dead=entry["dead"],
        reason=entry.get("reason"),
        views=_views(entry),
        slices=tuple(entry.get("slices", ())),
        data=entry,
    )


def finding_of(entry: Mapping[str, Any], outputs: Collection[str]) -> Finding:
    """A finding of report.json; ``outputs`` are the names of the network outputs."""
    layer, action, tried = entry.get("layer"), entry.get("action"), entry.get("tried")
    return Finding(
        id=entry["id"],
        severity=entry["severity"],
        layer=layer,
        output=layer if layer in outputs else None,
        cause=entry["cause"],
        evidence=entry["evidence"],
        fix=entry["fix"],
        effect_db=maybe_number(entry.get("effect_db")),
        action=None if action is None else Action(kind=action["kind"], value=action.get("value"), data=action),
        tried=None if tried is None else _tried(tried),
    )


def _tried(entry: Mapping[str, Any]) -> Tried:
    return Tried(
        number=entry["number"],
        before_db=number(entry["before_db"]),
        after_db=number(entry["after_db"]),
        gain_db=number(entry["gain_db"]),
        worst_before_db=number(entry["worst_before_db"]),
        worst_after_db=number(entry["worst_after_db"]),
        cost=number(entry["cost"]),
    )

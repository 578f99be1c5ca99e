"""A model under a plan: run, analyzed, edited, written."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import _qloupe
from .errors import OptionsError, UnknownChoiceError
from .fixes import Fixes
from .hybrid import HybridProposal
from .printed import Timing
from .progress import Progress, shown
from .report import Report
from .samples import AnySamples, Array, PathLike

if TYPE_CHECKING:
    from .model import Model

#: The views of an analysis where nothing is said.
DEFAULT_VIEWS = ("entire", "local", "alone", "rescued")


@dataclass(frozen=True)
class Value:
    """What a plan says of a value."""

    name: str
    #: The operators of the unit that produces it, ``Conv+Relu``; ``Input`` for a network input.
    unit: str
    #: ``int8`` and its kind, ``fp16`` or ``float``.
    precision: str
    #: The value whose scale it has.
    shared_with: Optional[str]
    #: Why it is not an integer.
    reason: Optional[str]
    #: One scale, or one for each channel; empty where it is no integer.
    scale: List[float]
    zero_point: List[int]
    #: The range that was calibrated.
    range: Optional[Tuple[float, float]]
    #: How algorithms competed for the range.
    chosen: str


@dataclass(frozen=True)
class Weight:
    """What a plan says of a weight."""

    name: str
    dtype: str
    scale: List[float]
    zero_point: List[int]
    #: What was special about its channels.
    outcome: str


class Quantized:
    """A model with the precision of everything in it. An edit gives another one.

    Made by :meth:`qloupe.Model.build`, :meth:`qloupe.Model.read_plan` or :func:`qloupe.load_quantized`.
    """

    def __init__(self, handle: _qloupe.Quantized, model: "Model") -> None:
        self._handle = handle
        #: The model it is compared with.
        self.model = model

    def __repr__(self) -> str:
        n_int, n_fp16, n_float = self._handle.counts()
        how = f"{self.algorithm}, {self.method}"
        return f"Quantized({self.target}, {how}: {n_int} values in integers, {n_fp16} in float16, {n_float} in float32)"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(v.name)}</td><td>{html.escape(v.unit)}</td><td>{v.precision}</td>"
            f"<td>{', '.join(f'{s:.6g}' for s in v.scale[:4])}</td></tr>"
            for v in self.values
        )
        head = "<tr><th>value</th><th>unit</th><th>precision</th><th>scale</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{cells}</table>"

    @property
    def target(self) -> str:
        """The target."""
        return self._handle.target()

    @property
    def algorithm(self) -> str:
        """The calibration algorithm."""
        return self._handle.algorithm()

    @property
    def method(self) -> str:
        """Whether weights have a scale for each ``channel`` or ``layer``."""
        return self._handle.method()

    @property
    def notes(self) -> List[str]:
        """What the user should know."""
        return self._handle.notes()

    @property
    def values(self) -> List[Value]:
        """Network inputs and unit outputs, in execution order."""
        return [Value(**entry) for entry in self._handle.values()]

    @property
    def weights(self) -> List[Weight]:
        """Quantized weights, in execution order."""
        return [Weight(**entry) for entry in self._handle.weights()]

    @property
    def operators_in_float(self) -> Dict[str, int]:
        """The operators that the target has no integers for, and how many units of each there are."""
        return dict(self._handle.operators_in_float())

    @property
    def board_inputs(self) -> List[Dict[str, Any]]:
        """What to feed on the board: dtype, scale and zero point of each input."""
        return [json.loads(data) for data, _ in self._handle.board_inputs()]

    @property
    def plan_text(self) -> str:
        """The plan as its file has it."""
        return self._handle.plan_text()

    def with_precisions(self, precisions: Mapping[str, str]) -> "Quantized":
        """The same with other precisions of some values: ``fp16``, ``float`` or ``int8``.

        A value that is raised takes the unit that computes it out of the integers: hybrid quantization by hand.
        """
        return Quantized(self._handle.with_precisions(list(precisions.items())), self.model)

    def with_ranges(self, ranges: Mapping[str, Tuple[float, float]]) -> "Quantized":
        """The same with other ranges of some integer values."""
        edits = [(name, float(low), float(high)) for name, (low, high) in ranges.items()]
        return Quantized(self._handle.with_ranges(edits), self.model)

    def infer(self, inputs: AnySamples, *, mode: str = "integer", progress: Progress = True) -> Dict[str, Array]:
        """Runs as the target computes; outputs are real numbers, by name.

        ``integer`` is what the hardware does, ``fake-quant`` what the QDQ model says. Inputs as in
        :meth:`qloupe.Model.infer`.
        """
        from .model import single_run

        arrays = single_run(self.model, inputs)
        if arrays is not None:
            return self._handle.infer_arrays(arrays, mode=mode)
        samples = self.model.samples(inputs)
        with shown(progress) as callback:
            return self._handle.infer(samples._handle, mode=mode, progress=callback)

    def analyze(
        self,
        inputs: AnySamples,
        *,
        views: Sequence[str] = DEFAULT_VIEWS,
        depth: str = "auto",
        n_effect_samples: Optional[int] = None,
        until_stable: bool = False,
        labels: Optional[PathLike] = None,
        mode: str = "integer",
        dump: Optional[PathLike] = None,
        costs: bool = True,
        progress: Progress = True,
    ) -> Report:
        """Compares with the float model, layer by layer.

        ``views`` are ``entire`` (everything quantized), ``local`` (one layer, with float inputs), ``tensor`` (one value),
        ``alone`` and ``rescued`` (what each unit does to the network outputs by itself, and what is won without it).
        ``depth`` says how these two are found: ``exact`` runs every unit again, ``estimated`` takes gradients and runs the
        units that do most again, ``auto`` is exact for small networks. They are measured on ``n_effect_samples`` samples.
        ``until_stable`` stops reading samples once the worst layers keep their order. ``labels`` are the right answers of the
        samples, for the task accuracy in the report. ``dump`` is a folder for every value as .npy. ``costs`` measures what
        each precision takes.
        """
        samples = self.model.samples(inputs)
        with shown(progress) as callback:
            handle = self._handle.analyze(
                samples._handle,
                views=list(views),
                mode=mode,
                depth=depth,
                n_effect_samples=n_effect_samples,
                until_stable=until_stable,
                dump=None if dump is None else os.fspath(dump),
                costs=costs,
                labels=None if labels is None else os.fspath(labels),
                progress=callback,
            )
        return Report(handle)

    def try_fixes(
        self,
        inputs: AnySamples,
        n: int = 5,
        *,
        dataset: Optional[AnySamples] = None,
        report: Optional[Report] = None,
        mode: str = "integer",
        progress: Progress = True,
    ) -> Fixes:
        """Tries the fixes of the first ``n`` findings that have one, each by itself on this plan, and tells what each brings.

        With a ``dataset`` to calibrate on, to quantize again with better ranges and all passes is tried beside those, where a
        finding proposes it. ``report`` is an analysis of this plan; without one it is made.
        """
        if n < 1:
            raise OptionsError(f"try_fixes: expected at least 1 fix to try, got {n}")
        samples = self.model.samples(inputs)
        calibration = None if dataset is None else self.model.samples(dataset)
        if report is None:
            report = self.analyze(samples, mode=mode, costs=False, progress=progress)
        with shown(progress) as callback:
            handle = self._handle.try_fixes(
                samples._handle,
                None if calibration is None else calibration._handle,
                report._handle,
                n,
                mode=mode,
                progress=callback,
            )
        return Fixes(self, samples, calibration, Report(handle), mode)

    def propose_hybrid(
        self,
        inputs: AnySamples,
        *,
        min_cosine: Optional[float] = None,
        min_sqnr_db: Optional[float] = None,
        max_drop: Optional[float] = None,
        labels: Optional[PathLike] = None,
        mode: str = "integer",
        n_effect_samples: Optional[int] = None,
        progress: Progress = True,
    ) -> HybridProposal:
        """Finds the least set of units in higher precision that reaches a goal on the samples.

        The goal is one of ``min_cosine`` and ``min_sqnr_db``, at the worst network output or slice of one, and ``max_drop``:
        points of task accuracy lost against float, which needs ``labels``, the right answers of the samples.
        """
        samples = self.model.samples(inputs)
        with shown(progress) as callback:
            handle = self._handle.propose_hybrid(
                samples._handle,
                min_sqnr_db=min_sqnr_db,
                min_cosine=min_cosine,
                max_drop=max_drop,
                labels=None if labels is None else os.fspath(labels),
                mode=mode,
                n_effect_samples=n_effect_samples,
                progress=callback,
            )
        return HybridProposal(handle, self)

    def with_hybrid(self, path: PathLike) -> "Quantized":
        """The same with the precisions of a file: one that :meth:`HybridProposal.save` or ``qloupe hybrid propose`` wrote, edited
        or not, or the vendor's ``.quantization.cfg`` with ``custom_quantize_layers``."""
        return Quantized(self._handle.with_hybrid(os.fspath(path)), self.model)

    def layer_values(
        self, inputs: AnySamples, names: Sequence[str], *, index: int = 0, mode: str = "integer"
    ) -> Dict[str, Tuple[Array, Array]]:
        """The float values and the values under test of some layers on one sample: (golden, test) by name."""
        samples = self.model.samples(inputs)
        return self._handle.layer_values(samples._handle, index, list(names), mode=mode)

    def save(self, path: PathLike, *, plan: Optional[PathLike] = None) -> Path:
        """Writes the model (QDQ ONNX, or float16) and its plan beside it; the path of the plan."""
        plan_path = Path(path).with_suffix(".plan.toml") if plan is None else Path(plan)
        self._handle.save_model(os.fspath(path))
        self._handle.save_plan(os.fspath(plan_path))
        return plan_path

    def save_plan(self, path: PathLike) -> None:
        """Writes the plan alone."""
        self._handle.save_plan(os.fspath(path))

    def export(
        self, to: str, output: PathLike, *, cfg: Optional[PathLike] = None, dataset: Optional[PathLike] = None
    ) -> Dict[str, Any]:
        """Writes the plan for another tool: a format of :func:`qloupe.export_formats`. What was written.

        ``rknn`` needs the vendor's ``cfg``, ``rknn-script`` a ``dataset``.
        """
        known = [name for name, *_ in _qloupe.export_formats()]
        if to not in known:
            raise UnknownChoiceError(
                f'unknown format "{to}", expected one of {", ".join(known)}', what="format", name=to, choices=known, nearest=None
            )
        written = self._handle.export(
            to,
            os.fspath(output),
            cfg=None if cfg is None else os.fspath(cfg),
            dataset=None if dataset is None else os.fspath(dataset),
        )
        result: Dict[str, Any] = json.loads(written)
        return result

    def bench(
        self,
        *,
        mode: str = "integer",
        n_runs: int = 10,
        n_warmup: int = 2,
        profile: bool = False,
        progress: Progress = True,
    ) -> Timing:
        """How long it takes on this machine, on inputs that are made up."""
        with shown(progress) as callback:
            data, text = self._handle.bench(
                mode=mode, n_runs=n_runs, n_warmup=n_warmup, profile=profile, progress=callback
            )
        return Timing(json.loads(data), text)

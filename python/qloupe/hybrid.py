"""Hybrid quantization: the least of a network in higher precision that reaches a goal."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional

from . import _qloupe
from ._optional import require
from .printed import Printed
from .rows import maybe_number, number
from .samples import PathLike

if TYPE_CHECKING:
    from .quantized import Quantized


@dataclass(frozen=True)
class HybridUnit:
    """One unit of a proposal."""

    #: The value it writes, as the plan names it.
    value: str
    #: Its operators, ``Conv+Relu``.
    unit: str
    #: ``int8``, ``fp16``, ``float`` or what else the plan has.
    precision: str
    #: Whether the proposal raised it.
    is_raised: bool
    #: What is won at the network outputs without its error, in dB; None where that was not measured.
    gain_db: Optional[float]
    #: The part of all multiply-accumulates that it does, 0 to 1.
    cost: float
    #: Why it has this precision; empty where it is an integer.
    reason: str


@dataclass(frozen=True)
class Standing:
    """What a plan comes to on the samples."""

    #: The SQNR of the worst network output, or slice of one, in dB.
    worst_sqnr_db: float
    #: The mean cosine of the worst one.
    worst_cosine: float
    #: Which is the worst.
    worst_output: str
    #: Points of task accuracy lost against float; None where that was not the goal.
    drop: Optional[float]


class HybridProposal(Printed):
    """A set of units in higher precision that was run and reaches a goal, none of them superfluous.

    Made by :meth:`qloupe.Quantized.propose_hybrid`. Where no set reaches the goal, every unit is raised, and ``is_reached`` is
    False.
    """

    def __init__(self, handle: _qloupe.Proposal, base: "Quantized") -> None:
        data, text = handle.printed()
        super().__init__(json.loads(data), text)
        self._handle, self._base = handle, base
        #: What had to be reached.
        self.goal: str = self.data["goal"]
        self.is_reached: bool = self.data["reached"]
        #: What the plan came to before.
        self.before = _standing(self.data["before"])
        #: What it comes to with the proposal.
        self.after = _standing(self.data["after"])
        #: What it comes to with every unit raised: no proposal does better.
        self.best = _standing(self.data["best"])
        #: The part of all multiply-accumulates that it takes out of the integers, 0 to 1.
        self.cost: float = self.data["cost"]
        #: Sets that were run.
        self.n_trials: int = self.data["n_trials"]
        #: Every unit, in execution order.
        self.units: List[HybridUnit] = [
            HybridUnit(**{**entry, "gain_db": maybe_number(entry["gain_db"])}) for entry in self.data["units"]
        ]

    @property
    def raised(self) -> List[HybridUnit]:
        """The units that are raised."""
        return [unit for unit in self.units if unit.is_raised]

    @property
    def quantized(self) -> "Quantized":
        """The model under the plan with the proposal in it."""
        from .quantized import Quantized

        return Quantized(self._handle.quantized(), self._base.model)

    def save(self, path: PathLike) -> Path:
        """Writes the proposal, a line for each unit, to be edited: :meth:`qloupe.Quantized.with_hybrid` and
        :meth:`qloupe.Model.read_hybrid` take it. The path of the plan that is written beside it.
        """
        return Path(self._handle.save(os.fspath(path)))

    def to_pandas(self) -> Any:
        """A row for each unit."""
        pandas = require("pandas", "pandas", "to_pandas()")
        return pandas.DataFrame([vars(unit) for unit in self.units]).set_index("value")

    def _repr_html_(self) -> str:
        head = "<tr><th>value</th><th>unit</th><th>precision</th><th>gain, dB</th><th>cost, %</th></tr>"
        rows = "".join(
            f"<tr><td>{html.escape(unit.value)}</td><td>{html.escape(unit.unit)}</td><td>{unit.precision}</td>"
            f"<td>{'' if unit.gain_db is None else f'{unit.gain_db:+.2f}'}</td><td>{100.0 * unit.cost:.2f}</td></tr>"
            for unit in self.raised
        )
        summary = str(self).splitlines()
        words = [line for line in summary if not line.startswith("  ")]
        return "".join(f"<p>{html.escape(line)}</p>" for line in words) + f"<table>{head}{rows}</table>"


def _standing(entry: Mapping[str, Any]) -> Standing:
    return Standing(
        worst_sqnr_db=number(entry["worst_sqnr_db"]),
        worst_cosine=number(entry["worst_cosine"]),
        worst_output=entry["worst_output"],
        drop=maybe_number(entry["drop"]),
    )

"""Which layers to raise to float16: the least set that brings every network output to the vendor's thresholds.

The vendor raises the layers whose own error is beyond a threshold, one by one and without looking at the outputs. Here
``auto_hybrid_cos_thresh`` is what every network output, and slice of one, has to reach: what is proposed was run. A layer whose own
Euclidean distance is beyond ``auto_hybrid_euc_thresh`` is raised before, as the vendor does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional

from ..hybrid import HybridProposal
from ..quantized import Quantized
from ..samples import Samples
from .log import Log


@dataclass(frozen=True)
class Raised:
    """A plan with layers that were raised."""

    quantized: Quantized
    #: The layers by name, and what the cfg and the log say of each.
    layers: Dict[str, str]


def propose(
    quantized: Quantized,
    samples: Samples,
    cos_thresh: Optional[float],
    euc_thresh: Optional[float],
    log: Log,
    method: str,
) -> Raised:
    """Raises what has to be raised for the thresholds; ``method`` is who says so."""
    layers: Dict[str, str] = {}
    raised = quantized
    if euc_thresh is not None:
        layers = _far(quantized, samples, euc_thresh)
        for name, remark in layers.items():
            log.info(f"{method}: '{name}' is raised: {remark}")
        if layers:
            raised = quantized.with_precisions(dict.fromkeys(layers, "fp16"))
    if cos_thresh is not None:
        proposal = raised.propose_hybrid(samples, min_cosine=cos_thresh, progress=True)
        _say(proposal, cos_thresh, log, method)
        remarks = {unit.value: _remark(unit.gain_db, unit.cost) for unit in proposal.raised}
        before = {value.name: value.precision for value in raised.values}
        raised = proposal.quantized
        for value in raised.values:
            if value.precision != before[value.name]:
                layers[value.name] = remarks.get(value.name, "written by the same unit")
    log.info(f"{method}: {len(layers)} layers are raised")
    return Raised(raised, layers)


def _far(quantized: Quantized, samples: Samples, euc_thresh: float) -> Dict[str, str]:
    """The integer layers whose own error is beyond a distance."""
    report = quantized.analyze(samples, views=("local",), costs=False)
    integer = {value.name for value in quantized.values if value.precision == "int8" and value.unit != "Input"}
    found = {}
    for layer in report.layers:
        distance = layer.metric("euclidean", "local")
        if layer.name in integer and distance is not None and distance > euc_thresh:
            found[layer.name] = f"its own euclidean distance is {distance:.5g}, above {euc_thresh:g}"
    return found


def _say(proposal: HybridProposal, cos_thresh: float, log: Log, method: str) -> None:
    before, after = proposal.before, proposal.after
    lines: List[str] = [
        f"to raise {unit.precision} '{unit.value}' ({unit.unit}): {_remark(unit.gain_db, unit.cost)}" for unit in proposal.raised
    ]
    lines.append(
        f"cosine of the worst output {before.worst_cosine:.5f} before ({before.worst_output}, {before.worst_sqnr_db:.1f} dB), "
        f"{after.worst_cosine:.5f} after ({after.worst_output}, {after.worst_sqnr_db:.1f} dB); {len(proposal.raised)} of "
        f"{len(proposal.units)} units, {100.0 * proposal.cost:.2f}% of the multiply-accumulates; {proposal.n_trials} sets were run"
    )
    for line in lines:
        log.info(f"{method}: {line}")
    if not proposal.raised:
        log.warn(
            f"{method}: every output reaches a cosine of {cos_thresh:g} as it is (the worst {before.worst_cosine:.5f}): no layer is "
            "raised for it; a higher auto_hybrid_cos_thresh asks for more"
        )
    if not proposal.is_reached:
        log.warn(
            f"{method}: no set of layers reaches a cosine of {cos_thresh:g} at every output: with all of them in float16 it is "
            f"{proposal.best.worst_cosine:.5f} ({proposal.best.worst_output})"
        )


def _remark(gain_db: Optional[float], cost: float) -> str:
    gain = "gain not measured" if gain_db is None else f"gain {gain_db:+.2f} dB at the outputs"
    return f"{gain}, {100.0 * cost:.2f}% of the multiply-accumulates"

"""Fixes that findings propose: tried, compared, applied."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, List, Optional, Tuple

from .errors import OptionsError
from .report import Report
from .rows import Finding, Tried
from .samples import Samples

if TYPE_CHECKING:
    from .quantized import Quantized


class Fixes:
    """What each fix brought, tried by itself. Made by :meth:`qloupe.Quantized.try_fixes`."""

    def __init__(
        self, quantized: "Quantized", samples: Samples, calibration: Optional[Samples], report: Report, mode: str
    ) -> None:
        self._quantized, self._samples, self._calibration, self._mode = quantized, samples, calibration, mode
        #: The report, whose findings say what was tried.
        self.report = report

    @property
    def tried(self) -> List[Finding]:
        """The findings whose fix was tried, by number. Findings with the same fix have the same number."""
        return [finding for finding, _ in self._rows()]

    @property
    def best(self) -> Optional[Finding]:
        """The finding whose fix brought most; None where none brought anything."""
        rows = [(tried.gain_db, finding) for finding, tried in self._rows() if tried.gain_db > 0.0]
        return max(rows, key=lambda row: row[0])[1] if rows else None

    def apply(self, *numbers: int) -> "Quantized":
        """The model with the fixes of these numbers, together."""
        from .quantized import Quantized

        if not numbers:
            raise OptionsError("apply: expected the numbers of fixes that were tried, got none")
        if any(number < 1 for number in numbers):
            raise OptionsError(f"apply: fixes are numbered from 1, got {', '.join(map(str, numbers))}")
        quantized, samples = self._quantized, self._samples._handle
        calibration = None if self._calibration is None else self._calibration._handle
        handle = quantized._handle.with_fixes(
            samples, calibration, self.report._handle, list(numbers), mode=self._mode
        )
        return Quantized(handle, quantized.model)

    def _rows(self) -> List[Tuple[Finding, Tried]]:
        rows = [(finding, finding.tried) for finding in self.report.findings if finding.tried is not None]
        return sorted(rows, key=lambda row: row[1].number)

    def __str__(self) -> str:
        lines = [
            f"{tried.number}  {tried.gain_db:+.2f} dB ({tried.before_db:.2f} to {tried.after_db:.2f}, worst output "
            f"{tried.worst_before_db:.2f} to {tried.worst_after_db:.2f}), {100.0 * tried.cost:.2f}% of the "
            f"multiply-accumulates: {finding.layer or 'model'}: {finding.fix}"
            for finding, tried in self._rows()
        ]
        return "\n".join(lines) or "no finding has a fix that can be tried"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>\n{self}"

    def _repr_html_(self) -> str:
        head = "<tr><th>fix</th><th>value</th><th>gain, dB</th><th>before</th><th>after</th><th>cost, %</th><th>what</th></tr>"
        rows = "".join(
            f"<tr><td>{tried.number}</td><td>{html.escape(finding.layer or '')}</td><td>{tried.gain_db:+.2f}</td>"
            f"<td>{tried.before_db:.2f}</td><td>{tried.after_db:.2f}</td><td>{100.0 * tried.cost:.2f}</td>"
            f"<td>{html.escape(finding.fix)}</td></tr>"
            for finding, tried in self._rows()
        )
        return f"<table>{head}{rows}</table>" if rows else f"<p>{html.escape(str(self))}</p>"

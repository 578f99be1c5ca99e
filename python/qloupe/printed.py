"""Results that have data and a text: both are what the command line prints."""

from __future__ import annotations

import html
from typing import Any, Dict, List, Optional, cast

from ._optional import require

Data = Dict[str, Any]


class Printed:
    """A result: ``data`` is its JSON, ``str()`` its text."""

    def __init__(self, data: Data, text: str) -> None:
        #: The result as the command line's ``--json`` has it.
        self.data = data
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>\n{self._text}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self._text)}</pre>"


class Inspection(Printed):
    """What is in a model, and what a target makes of it."""

    @property
    def unsupported(self) -> Dict[str, int]:
        """Operators that qloupe does not have, and how many there are of each."""
        return cast(Dict[str, int], self.data["unsupported"])

    @property
    def operators(self) -> List[Data]:
        """One entry for each operator: how many, what they cost, what the target computes them with."""
        return cast(List[Data], self.data["operators"])


class Evaluation(Printed):
    """How often the model is right, by precision."""

    def metric(self, name: str, precision: str) -> Optional[float]:
        """The share of right answers, or None where the precision did not run."""
        for score in self.data["scores"]:
            if score["precision"] == precision:
                found = score["agreement"] if name == "agreement" else score["metrics"].get(name)
                return None if found is None else float(found["value"])
        return None

    def to_pandas(self) -> Any:
        """A row for each precision."""
        rows = []
        for score in self.data["scores"]:
            row = {name: metric["value"] for name, metric in score["metrics"].items()}
            row.update(precision=score["precision"], n_nan=score["n_nan"], seconds=score["seconds"], flips=score["flips"])
            rows.append(row)
        return require("pandas", "pandas", "to_pandas()").DataFrame(rows).set_index("precision")


class Comparison(Printed):
    """Plans of several algorithms and methods side by side."""

    @property
    def rows(self) -> List[Data]:
        """One entry for each plan."""
        return cast(List[Data], self.data["rows"])

    def to_pandas(self) -> Any:
        """A row for each plan."""
        pandas = require("pandas", "pandas", "to_pandas()")
        return pandas.json_normalize(self.rows)


class Timing(Printed):
    """How long runs take on this machine."""

    @property
    def median_ms(self) -> float:
        """The run in the middle."""
        return float(self.data["latency_ms"]["median"])

    @property
    def peak_bytes(self) -> int:
        """The most bytes of activations alive at once."""
        return int(self.data["peak_bytes"])

"""The Rust half of the package qloupe."""

import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, final

import numpy.typing as npt

_Array = npt.NDArray[Any]
_Progress = Optional[Callable[[str, int, int], None]]
_Printed = Tuple[str, str]
_Path = str | os.PathLike[str]

__all__ = [
    "Model",
    "Proposal",
    "Quantized",
    "Report",
    "ReportComparison",
    "Samples",
    "__version__",
    "algorithms",
    "copy_model",
    "export_formats",
    "metrics",
    "report_formats",
    "run_command_line",
    "targets",
    "thread_count",
]

__version__: str

def algorithms() -> List[Tuple[str, str, List[str]]]: ...
def copy_model(source: _Path, target: _Path, /) -> None: ...
def export_formats() -> List[Tuple[str, str, bool, bool]]: ...
def metrics() -> List[Tuple[str, str, str, str]]: ...
def report_formats() -> List[Tuple[str, Optional[str]]]: ...
def run_command_line(arguments: Sequence[str], /) -> int: ...
def targets() -> List[Tuple[str, str]]: ...
def thread_count() -> int: ...
@final
class Samples:
    def __len__(self) -> int: ...
    def notes(self) -> List[str]: ...
    def source(self) -> str: ...
    def first(self, n: int, /) -> Samples: ...
    def file(self, index: int, /) -> Optional[str]: ...
    def read(self, index: int, /) -> Dict[str, _Array]: ...

@final
class Report:
    @staticmethod
    def parse(text: str, file: str, /) -> Report: ...
    def to_json(self) -> str: ...
    def format(
        self,
        format: str,
        /,
        *,
        colour: bool = False,
        width: int = 120,
        txt_style: str = "2",
        thresholds: Tuple[float, float] = ...,
    ) -> str: ...
    def gate(self, limit: str, /) -> Tuple[bool, str]: ...
    def story(self, layer: str, /) -> List[str]: ...
    def compare(self, after: Report, names: Tuple[str, str], /) -> ReportComparison: ...

@final
class ReportComparison:
    def printed(self, *, all: bool, width: int) -> _Printed: ...
    def regression(self, limit_db: float, /) -> Tuple[bool, str]: ...

@final
class Proposal:
    def printed(self) -> _Printed: ...
    def quantized(self) -> Quantized: ...
    def save(self, path: _Path, /) -> os.PathLike[str]: ...

@final
class Model:
    @staticmethod
    def open(
        path: _Path,
        /,
        *,
        shapes: Mapping[str, Sequence[int]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        recipe: Optional[Tuple[str, str]],
    ) -> Model: ...
    @staticmethod
    def look(path: _Path, /, *, inputs: Sequence[str], outputs: Sequence[str]) -> List[Dict[str, Any]]: ...
    def path(self) -> os.PathLike[str]: ...
    def inputs(self) -> List[Dict[str, Any]]: ...
    def outputs(self) -> List[str]: ...
    def is_quantized(self) -> bool: ...
    def inspect(self, target: Optional[str] = None) -> _Printed: ...
    def samples(self, files: Sequence[str], /) -> Samples: ...
    def sample_arrays(self, arrays: Dict[str, _Array], /) -> Samples: ...
    def infer_arrays(self, arrays: Dict[str, _Array], /) -> Dict[str, _Array]: ...
    def infer(self, samples: Samples, /, *, progress: _Progress = None) -> Dict[str, _Array]: ...
    def build(
        self,
        target: str,
        samples: Optional[Samples] = None,
        *,
        algorithm: str,
        method: Optional[str],
        optimization_level: int,
        statistics: Optional[_Path] = None,
        ranges: Optional[_Path] = None,
        as_converted: bool = False,
        progress: _Progress = None,
    ) -> Quantized: ...
    def read_plan(self, path: _Path, /) -> Quantized: ...
    def read_hybrid(self, path: _Path, /, *, plan: Optional[_Path] = None) -> Quantized: ...
    def evaluate(
        self,
        labels: _Path,
        samples: Sequence[str],
        *,
        quantized: Optional[Quantized] = None,
        precisions: Optional[Sequence[str]] = None,
        task: Optional[str] = None,
        output: Optional[str] = None,
        classes: Optional[Sequence[str]] = None,
        mode: str = "integer",
        progress: _Progress = None,
    ) -> _Printed: ...
    def compare(
        self,
        target: str,
        calibration: Samples,
        samples: Samples,
        *,
        algorithms: Sequence[str],
        methods: Sequence[str],
        optimization_level: int,
        labels: Optional[_Path] = None,
        labelled_samples: Optional[Sequence[str]] = None,
        mode: str = "integer",
        progress: _Progress = None,
    ) -> _Printed: ...
    def bench(self, *, n_runs: int, n_warmup: int, profile: bool, progress: _Progress = None) -> _Printed: ...

@final
class Quantized:
    @staticmethod
    def read(
        path: _Path,
        /,
        *,
        original: Optional[_Path],
        target: str,
        shapes: Mapping[str, Sequence[int]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        recipe: Optional[Tuple[str, str]],
    ) -> Quantized: ...
    def target(self) -> str: ...
    def algorithm(self) -> str: ...
    def method(self) -> str: ...
    def counts(self) -> Tuple[int, int, int]: ...
    def notes(self) -> List[str]: ...
    def plan_text(self) -> str: ...
    def values(self) -> List[Dict[str, Any]]: ...
    def weights(self) -> List[Dict[str, Any]]: ...
    def operators_in_float(self) -> List[Tuple[str, int]]: ...
    def board_inputs(self) -> List[_Printed]: ...
    def with_precisions(self, precisions: Sequence[Tuple[str, str]], /) -> Quantized: ...
    def with_ranges(self, ranges: Sequence[Tuple[str, float, float]], /) -> Quantized: ...
    def read_ranges(self, path: _Path, /) -> Dict[str, Any]: ...
    def infer_arrays(self, arrays: Dict[str, _Array], /, *, mode: str = "integer") -> Dict[str, _Array]: ...
    def infer(self, samples: Samples, /, *, mode: str = "integer", progress: _Progress = None) -> Dict[str, _Array]: ...
    def analyze(
        self,
        samples: Samples,
        /,
        *,
        views: Sequence[str],
        mode: str,
        depth: str,
        n_effect_samples: Optional[int],
        until_stable: bool,
        dump: Optional[_Path] = None,
        costs: bool = True,
        labels: Optional[_Path] = None,
        progress: _Progress = None,
    ) -> Report: ...
    def try_fixes(
        self,
        samples: Samples,
        calibration: Optional[Samples],
        report: Report,
        n: int,
        /,
        *,
        mode: str,
        progress: _Progress = None,
    ) -> Report: ...
    def with_fixes(
        self,
        samples: Samples,
        calibration: Optional[Samples],
        report: Report,
        numbers: Sequence[int],
        /,
        *,
        mode: str,
    ) -> Quantized: ...
    def propose_hybrid(
        self,
        samples: Samples,
        /,
        *,
        min_sqnr_db: Optional[float],
        min_cosine: Optional[float],
        max_drop: Optional[float],
        labels: Optional[_Path],
        mode: str,
        n_effect_samples: Optional[int],
        progress: _Progress = None,
    ) -> Proposal: ...
    def with_hybrid(self, path: _Path, /) -> Quantized: ...
    def layer_values(
        self, samples: Samples, index: int, names: Sequence[str], /, *, mode: str = "integer"
    ) -> Dict[str, Tuple[_Array, _Array]]: ...
    def save_model(self, path: _Path, /) -> None: ...
    def save_plan(self, path: _Path, /) -> None: ...
    def export(
        self, format: str, output: _Path, /, *, cfg: Optional[_Path] = None, dataset: Optional[_Path] = None
    ) -> str: ...
    def bench(
        self, *, mode: str = "integer", n_runs: int, n_warmup: int, profile: bool, progress: _Progress = None
    ) -> _Printed: ...

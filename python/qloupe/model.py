"""A float model: opened, looked into, run, quantized."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _qloupe
from .errors import OptionsError
from .printed import Comparison, Evaluation, Inspection, Timing
from .progress import Progress, shown
from .quantized import Quantized
from .recipe import AnyRecipe, text_and_origin
from .samples import AnySamples, Array, PathLike, Samples, arrays_of, file_names, opened

#: How ranges are found where nothing is said.
DEFAULT_ALGORITHM = "auto"


@dataclass(frozen=True)
class Input:
    """An input of a model."""

    name: str
    dtype: str
    #: Open dimensions are None.
    shape: Tuple[Optional[int], ...]
    #: ``nchw`` or ``nhwc``; None where pictures cannot feed it.
    layout: Optional[str]
    #: ``rgb``, ``bgr``, ``gray``; None where pictures cannot feed it.
    channels: Optional[str]
    #: True where the recipe normalizes arrays as it does pictures.
    normalizes_arrays: bool
    #: True where the recipe gives every element.
    is_fed_by_recipe: bool


def load(
    path: PathLike,
    *,
    recipe: Optional[AnyRecipe] = None,
    shapes: Optional[Mapping[str, Sequence[int]]] = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> "Model":
    """Opens a float ONNX model.

    ``recipe`` says how inputs are made from pictures. ``shapes`` fixes open dimensions. ``inputs`` and ``outputs`` cut the
    model at these values.
    """
    handle = _qloupe.Model.open(os.fspath(path), **_opening(recipe, shapes, inputs, outputs))
    return Model(handle)


def load_quantized(
    path: PathLike,
    *,
    original: Optional[PathLike] = None,
    target: str = "onnxruntime",
    recipe: Optional[AnyRecipe] = None,
    shapes: Optional[Mapping[str, Sequence[int]]] = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Quantized:
    """Opens a model that another tool quantized (QDQ, QOperator, dynamic, weights only).

    It is compared with ``original``, the float model that it was made from, or with its own de-quantized weights.
    """
    opening = _opening(recipe, shapes, inputs, outputs)
    float_path = None if original is None else os.fspath(original)
    handle = _qloupe.Quantized.read(os.fspath(path), original=float_path, target=target, **opening)
    model = load(path if original is None else original, recipe=recipe, shapes=shapes, inputs=inputs, outputs=outputs)
    return Quantized(handle, model)


def inputs_of(path: PathLike, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> List[Input]:
    """The inputs of a model or a part of it: faster than to load it."""
    return described(_qloupe.Model.look(os.fspath(path), inputs=list(inputs), outputs=list(outputs)))


def described(entries: Sequence[Mapping[str, Any]]) -> List[Input]:
    """Inputs as the extension tells of them."""
    return [Input(**{**entry, "shape": tuple(entry["shape"])}) for entry in entries]


def _opening(
    recipe: Optional[AnyRecipe],
    shapes: Optional[Mapping[str, Sequence[int]]],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Dict[str, Any]:
    return {
        "recipe": text_and_origin(recipe),
        "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
        "inputs": list(inputs),
        "outputs": list(outputs),
    }


class Model:
    """A float model with its preprocessing. Made by :func:`load`."""

    def __init__(self, handle: _qloupe.Model) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name} {i.dtype}{['?' if d is None else d for d in i.shape]}" for i in self.inputs)
        return f"Model({self.path!r}: {inputs} -> {', '.join(self.outputs)})"

    @property
    def path(self) -> str:
        """The file."""
        return os.fspath(self._handle.path())

    @property
    def inputs(self) -> List[Input]:
        """The inputs."""
        return described(self._handle.inputs())

    @property
    def outputs(self) -> List[str]:
        """The names of the outputs."""
        return self._handle.outputs()

    @property
    def is_quantized(self) -> bool:
        """True for a model that another tool quantized: :func:`load_quantized` reads it."""
        return self._handle.is_quantized()

    def only_input(self, what: str) -> str:
        """The name of the only input that is fed; several cannot take ``what``."""
        fed = [each.name for each in self.inputs if not each.is_fed_by_recipe]
        if len(fed) != 1:
            raise OptionsError(f"{what} feeds one input, expected {len(fed)} by name ({', '.join(fed)})")
        return fed[0]

    def inspect(self, target: Optional[str] = None) -> Inspection:
        """Operators, shapes, parameters, costs; with a target, what it does with each operator."""
        data, text = self._handle.inspect(target)
        return Inspection(json.loads(data), text)

    def samples(self, samples: AnySamples) -> Samples:
        """Opens samples: files, a folder, a dataset.txt, arrays."""
        return opened(self, samples)

    def infer(self, inputs: AnySamples, *, progress: Progress = True) -> Dict[str, Array]:
        """Runs the float model; the outputs by name.

        Arrays of the shape and dtype of the inputs are one run. Files, and arrays with an axis for samples, are run one by one and
        joined along the first axis.
        """
        arrays = single_run(self, inputs)
        if arrays is not None:
            return self._handle.infer_arrays(arrays)
        samples = self.samples(inputs)
        with shown(progress) as callback:
            return self._handle.infer(samples._handle, progress=callback)

    def build(
        self,
        dataset: Optional[AnySamples] = None,
        *,
        target: Optional[str] = None,
        precision: Optional[str] = None,
        algorithm: str = DEFAULT_ALGORITHM,
        method: Optional[str] = None,
        optimization_level: int = 3,
        statistics: Optional[PathLike] = None,
        ranges: Optional[PathLike] = None,
        progress: Progress = True,
    ) -> Quantized:
        """Quantizes the model for a target; ``precision="fp16"`` makes it float16.

        ``dataset`` are the samples to calibrate on. float16 needs none; with them, what overflows, vanishes or loses too much
        there stays float32. ``algorithm`` is one of :func:`qloupe.algorithms`, ``method`` gives weights a scale for each
        ``channel``, ``layer`` or, on targets that have them, ``block``, which is the default there, ``optimization_level`` 0 changes no weight and no value (docs/QUANTIZER.md).
        ``statistics`` is an .npz that keeps what was seen; ``ranges`` a file of ranges that another tool calibrated.
        """
        samples = None if dataset is None else self.samples(dataset)
        with shown(progress) as callback:
            handle = self._handle.build(
                target_of(target, precision),
                None if samples is None else samples._handle,
                algorithm=algorithm,
                method=method,
                optimization_level=level_of(optimization_level),
                statistics=None if statistics is None else os.fspath(statistics),
                ranges=None if ranges is None else os.fspath(ranges),
                progress=callback,
            )
        return Quantized(handle, self)

    def read_plan(self, path: PathLike) -> Quantized:
        """The model under a plan that :meth:`Quantized.save` or ``qloupe build`` wrote, edited or not."""
        return Quantized(self._handle.read_plan(os.fspath(path)), self)

    def read_hybrid(self, path: PathLike, *, plan: Optional[PathLike] = None) -> Quantized:
        """The model under a proposal that :meth:`HybridProposal.save` or ``qloupe hybrid propose`` wrote, edited or not.

        ``plan`` is the plan that it is a change of, where it is not the one that the file names.
        """
        handle = self._handle.read_hybrid(os.fspath(path), plan=None if plan is None else os.fspath(plan))
        return Quantized(handle, self)

    def evaluate(
        self,
        labels: PathLike,
        samples: Union[None, PathLike, Sequence[PathLike]] = None,
        *,
        quantized: Optional[Quantized] = None,
        precisions: Optional[Sequence[str]] = None,
        task: Optional[str] = None,
        output: Optional[str] = None,
        classes: Optional[Sequence[str]] = None,
        mode: str = "integer",
        progress: Progress = True,
    ) -> Evaluation:
        """How often the model is right: in float, in fp16 and, with ``quantized``, in int8.

        ``labels`` is a labels.csv of lines ``path,label``, or an array in .npy, .npz or .safetensors.
        """
        with shown(progress) as callback:
            data, text = self._handle.evaluate(
                os.fspath(labels),
                [] if samples is None else file_names(samples),
                quantized=None if quantized is None else quantized._handle,
                precisions=None if precisions is None else list(precisions),
                task=task,
                output=output,
                classes=None if classes is None else list(classes),
                mode=mode,
                progress=callback,
            )
        return Evaluation(json.loads(data), text)

    def compare(
        self,
        dataset: AnySamples,
        inputs: AnySamples,
        *,
        target: str,
        algorithms: Sequence[str] = (DEFAULT_ALGORITHM,),
        methods: Sequence[str] = ("channel",),
        optimization_level: int = 3,
        labels: Optional[PathLike] = None,
        mode: str = "integer",
        progress: Progress = True,
    ) -> Comparison:
        """Every algorithm with every method: calibrated on ``dataset`` once, judged on ``inputs``."""
        calibration, samples = self.samples(dataset), self.samples(inputs)
        with shown(progress) as callback:
            data, text = self._handle.compare(
                target,
                calibration._handle,
                samples._handle,
                algorithms=list(algorithms),
                methods=list(methods),
                optimization_level=level_of(optimization_level),
                labels=None if labels is None else os.fspath(labels),
                mode=mode,
                progress=callback,
            )
        return Comparison(json.loads(data), text)

    def bench(self, *, n_runs: int = 10, n_warmup: int = 2, profile: bool = False, progress: Progress = True) -> Timing:
        """How long the float model takes on this machine, on inputs that are made up."""
        with shown(progress) as callback:
            data, text = self._handle.bench(n_runs=n_runs, n_warmup=n_warmup, profile=profile, progress=callback)
        return Timing(json.loads(data), text)


def single_run(model: Model, inputs: AnySamples) -> Optional[Dict[str, Array]]:
    """Arrays of exactly the shapes and dtypes of the inputs, taken as they are; None for everything that is several samples."""
    if isinstance(inputs, Mapping):
        arrays = arrays_of(inputs)
    elif hasattr(inputs, "shape"):
        arrays = arrays_of({model.only_input("an array"): inputs})
    else:
        return None
    specs = {each.name: each for each in model.inputs}

    def fits(name: str, array: Array) -> bool:
        spec = specs.get(name)
        if spec is None or spec.normalizes_arrays or array.dtype.name != spec.dtype or array.ndim != len(spec.shape):
            return False
        return all(want is None or want == got for want, got in zip(spec.shape, array.shape))

    return arrays if all(fits(name, array) for name, array in arrays.items()) else None


def target_of(target: Optional[str], precision: Optional[str]) -> str:
    """The target of a build."""
    if precision is None:
        if target is None:
            raise OptionsError("a target is missing, expected target=.. or precision='fp16'")
        return target
    if precision != "fp16":
        raise OptionsError(f"precision: expected 'fp16', or a target for integers, got {precision!r}")
    if target not in (None, "fp16"):
        raise OptionsError(f"precision 'fp16' with target {target!r} is not supported, expected it without a target")
    return "fp16"


def level_of(optimization_level: int) -> int:
    """An optimization level that exists."""
    if optimization_level not in (0, 1, 2, 3):
        raise OptionsError(f"optimization_level: expected 0 to 3, got {optimization_level!r}")
    return optimization_level

"""What an RKNN object knows between calls: the configuration, the model, what was built of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

import qloupe

from ..model import Model, inputs_of
from ..quantized import Quantized
from ..recipe import InputRecipe
from ..samples import Array, Samples
from .config import Config
from .log import Refusal


@dataclass
class State:
    """Empty at the beginning; each call fills a part."""

    config: Optional[Config] = None
    #: Why there is no configuration, where one was tried.
    config_failure: Optional[str] = None
    model: Optional[Model] = None
    #: What ``load_onnx`` was given, for the vendor's own tool and for step 2.
    load: Dict[str, Any] = field(default_factory=dict)
    quantized: Optional[Quantized] = None
    calibration: Optional[Samples] = None
    dataset: Optional[str] = None
    is_runtime_ready: bool = False
    #: Where converted models and samples of arrays lie.
    folder: Optional["tempfile.TemporaryDirectory[str]"] = None

    def require_config(self) -> Config:
        if self.config is not None:
            return self.config
        if self.config_failure is not None:
            raise Refusal(f"config was refused before: {self.config_failure}")
        raise Refusal("no configuration, expected a call of config first")

    def require_model(self) -> Model:
        if self.model is None:
            raise Refusal("no model, expected a call of load_onnx or another load function first")
        return self.model

    def require_quantized(self) -> Quantized:
        if self.quantized is None:
            raise Refusal("no built model, expected a call of build or hybrid_quantization_step2 first")
        return self.quantized

    def temporary(self) -> Path:
        """A folder that lives as long as the object."""
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="qloupe-rknn-")
        return Path(self.folder.name)


def open_model(config: Config, load: Dict[str, Any]) -> Model:
    """The model with the preprocessing of the configuration."""
    return qloupe.load(load["model"], **opening(config, load))


def opening(config: Config, load: Dict[str, Any]) -> Dict[str, Any]:
    """How the model of a configuration is opened: where it is cut, its shapes, its recipe."""
    path, shapes, names = load["model"], load["input_size_list"], load["inputs"]
    found = inputs_of(path)
    cut_inputs = [] if names is None or set(names) <= {each.name for each in found} else list(names)
    outputs = load["outputs"] or []
    if cut_inputs or outputs:
        found = inputs_of(path, inputs=cut_inputs, outputs=outputs)
    order = list(names) if names else [each.name for each in found]
    sized = _shapes(found, order, shapes)
    recipes = {}
    for position, name in enumerate(order):
        mean, std, is_bgr = config.of_input(position)
        each = next((each for each in found if each.name == name), None)
        is_float = each is not None and each.dtype.startswith("float")
        if mean is None and std is None and not is_float and not is_bgr:
            continue
        recipes[name] = InputRecipe(
            mean=mean, std=std, channel_order="bgr" if is_bgr else None, normalize_arrays=True if is_float else None
        )
    for parameter, values in (("mean_values", config.mean_values), ("std_values", config.std_values)):
        if values is not None and len(values) != len(order):
            raise Refusal(f"{parameter} has {len(values)} lists, expected {len(order)}, one for each input: {', '.join(order)}")
    return {"inputs": cut_inputs, "outputs": outputs, "shapes": sized, "recipe": recipes}


def _shapes(inputs: Sequence[qloupe.Input], order: Sequence[str], given: Optional[List[List[int]]]) -> Dict[str, List[int]]:
    """The shape of every input. An open batch is 1; other open dimensions have to be given."""
    if given is not None and len(given) != len(order):
        raise Refusal(f"input_size_list has {len(given)} shapes, expected {len(order)}, one for each input: {', '.join(order)}")
    by_name = dict(zip(order, given)) if given is not None else {}
    shapes = {}
    for each in inputs:
        shape = by_name.get(each.name)
        if shape is not None:
            shapes[each.name] = [1, *shape] if len(shape) + 1 == len(each.shape) else shape
            continue
        sizes = [1 if size is None and axis == 0 else size for axis, size in enumerate(each.shape)]
        if any(size is None for size in sizes):
            dims = ["?" if size is None else size for size in each.shape]
            raise Refusal(
                f"input '{each.name}' has the shape {dims}, expected sizes for its open dimensions",
                "give them with inputs=[..], input_size_list=[[..]]",
            )
        shapes[each.name] = [size for size in sizes if size is not None]
    return shapes


def before_mean_and_std(config: Config, model: Model, samples: Samples, n: int) -> List[List[Array]]:
    """The first samples as the vendor's tool takes them: arrays in the model's layout, before mean and std."""
    found = []
    for index in range(min(n, len(samples))):
        sample = samples[index]
        inputs = []
        for position, each in enumerate(model.inputs):
            mean, std, _ = config.of_input(position)
            array = sample[each.name]
            if mean is not None or std is not None:
                array = array * per_channel(std, 1.0, each) + per_channel(mean, 0.0, each)
            inputs.append(array.astype(np.float32) if array.dtype.kind == "f" else array)
        found.append(inputs)
    return found


def per_channel(numbers: Optional[List[float]], default: float, each: qloupe.Input) -> Array:
    """Numbers that broadcast over the channels of an input in its own layout."""
    values = np.asarray([default] if numbers is None else numbers, np.float32)
    if len(each.shape) != 4 or values.size == 1:
        return values.reshape(-1) if values.size > 1 else values.reshape(())
    return values.reshape((1, 1, 1, -1) if each.layout == "nhwc" else (1, -1, 1, 1))

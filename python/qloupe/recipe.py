"""How pictures and arrays become what a model's inputs expect."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Tuple, Union

from .errors import FileError

Numbers = Union[float, Sequence[float]]


@dataclass
class InputRecipe:
    """The preprocessing of one input: ``x' = (x * scale - mean) / std`` per channel, in the channel order of the model.

    What is None takes its default; ``docs/SAMPLES.md`` lists them.
    """

    scale: Optional[float] = None
    mean: Optional[Numbers] = None
    std: Optional[Numbers] = None
    #: ``nchw`` or ``nhwc``.
    layout: Optional[str] = None
    #: ``rgb``, ``bgr`` or ``gray``.
    channel_order: Optional[str] = None
    #: ``stretch``, ``letterbox``, ``center-crop`` or ``keep-height``.
    resize: Optional[str] = None
    #: The level that fills a letterbox.
    pad: Optional[int] = None
    #: Pixels of the shorter side before the centre is cut out.
    short_side: Optional[int] = None
    #: ``bilinear``, ``bicubic`` or ``nearest``.
    interpolation: Optional[str] = None
    #: Height and width where the model leaves them open.
    size: Optional[Tuple[int, int]] = None
    #: The dtype of arrays, where it is not the model's.
    dtype: Optional[str] = None
    #: Arrays go through scale, mean and std, too.
    normalize_arrays: Optional[bool] = None
    #: Every element of an input that takes no file.
    value: Optional[float] = None


@dataclass
class Recipe:
    """The preprocessing of a model, by input name."""

    inputs: Dict[str, InputRecipe] = field(default_factory=dict)

    def to_toml(self) -> str:
        """The text of a recipe file."""
        lines = []
        for name, recipe in self.inputs.items():
            lines.append(f"[input.{_string(name)}]")
            for key in fields(recipe):
                value = getattr(recipe, key.name)
                if value is not None:
                    lines.append(f"{key.name} = {_literal(value)}")
        return "\n".join(lines) + "\n"

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes the recipe file."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")


#: A recipe, its file, or the recipes of inputs by name.
AnyRecipe = Union[Recipe, str, "os.PathLike[str]", Mapping[str, InputRecipe]]


def text_and_origin(recipe: Optional[AnyRecipe]) -> Optional[Tuple[str, str]]:
    """What the extension takes: the text, and what messages call it."""
    if recipe is None:
        return None
    if isinstance(recipe, Recipe):
        return recipe.to_toml(), "recipe"
    if isinstance(recipe, Mapping):
        return Recipe(dict(recipe)).to_toml(), "recipe"
    path = Path(recipe)
    try:
        return path.read_text(encoding="utf-8"), f'"{path}"'
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f'"{path}" cannot be read: {error}', file=str(path)) from None


def _string(text: str) -> str:
    escaped = "".join(f"\\u{ord(c):04X}" if ord(c) < 32 or c == "\x7f" else c for c in text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return repr(float(value))  # type: ignore[arg-type]

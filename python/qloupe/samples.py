"""What can be given as samples: files, folders, lists, arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from . import _qloupe
from .errors import OptionsError

if TYPE_CHECKING:
    from .model import Model

Array = npt.NDArray[Any]
PathLike = Union[str, "os.PathLike[str]"]

#: A file, a folder, a dataset.txt, several of them, an array for the only input, arrays by input name, or samples that were
#: opened before. The first axis of an array is the sample.
AnySamples = Union[PathLike, Sequence[PathLike], Array, Mapping[str, Array], "Samples"]


class Samples:
    """Samples for the inputs of one model, read one by one when they are needed.

    Made by :meth:`qloupe.Model.samples`.
    """

    def __init__(self, handle: _qloupe.Samples) -> None:
        self._handle = handle

    def __len__(self) -> int:
        return len(self._handle)

    def __getitem__(self, index: int) -> Dict[str, Array]:
        """The arrays of a sample by input name, preprocessed as the model takes them."""
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"sample {index}: there are {n} samples")
        return self._handle.read(index % n)

    def __iter__(self) -> Iterator[Dict[str, Array]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Samples({len(self)} of {self.source})"

    @property
    def source(self) -> str:
        """Where they come from."""
        return self._handle.source()

    @property
    def notes(self) -> List[str]:
        """What the user should know: defaults that pictures get, arrays that are ignored."""
        return self._handle.notes()

    def first(self, n: int) -> "Samples":
        """The first samples, or all where there are fewer."""
        if n < 1:
            raise OptionsError(f"first: expected at least 1 sample, got {n}")
        return Samples(self._handle.first(n))

    def file(self, index: int) -> Optional[str]:
        """The file of a sample, when it holds no other."""
        return self._handle.file(index)


def opened(model: "Model", samples: AnySamples) -> Samples:
    """The samples for a model."""
    if isinstance(samples, Samples):
        return samples
    if isinstance(samples, Mapping):
        return Samples(model._handle.sample_arrays(arrays_of(samples)))
    if isinstance(samples, np.ndarray):
        return Samples(model._handle.sample_arrays({model.only_input("an array"): samples}))
    return Samples(model._handle.samples(file_names(samples)))


def arrays_of(arrays: Mapping[str, Any]) -> Dict[str, Array]:
    """Lists and scalars become arrays; arrays stay what they are."""
    return {name: np.asarray(array) for name, array in arrays.items()}


def file_names(files: Union[PathLike, Sequence[PathLike]]) -> List[str]:
    """One file or several, as text."""
    if isinstance(files, (str, os.PathLike)):
        return [os.fspath(files)]
    names = [os.fspath(file) for file in files]
    if not names:
        raise OptionsError("samples: expected at least one file, got none")
    return names


def dataset_path(dataset: PathLike) -> Path:
    """A dataset that another tool is to read, too: only a path will do."""
    if not isinstance(dataset, (str, os.PathLike)):
        raise OptionsError(f"dataset: expected a path, got {type(dataset).__name__}")
    return Path(dataset)

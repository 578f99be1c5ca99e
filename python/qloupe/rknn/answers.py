"""How a method of RKNN answers when something is wrong."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

from ..errors import Error
from .log import Refusal

_Method = TypeVar("_Method", bound=Callable[..., Any])


def answers(failure: Any) -> Callable[[_Method], _Method]:
    """A method that says in one sentence what is wrong, and answers with ``failure``."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **options: Any) -> Any:
            try:
                return method(self, *args, **options)
            except (Refusal, Error) as error:
                text, help = str(error), error.help
            except OSError as error:
                text, help = str(error), None
            self._log.error(f"{method.__name__}: {text}")
            if help is not None:
                self._log.error(f"help: {help}")
            return failure

        return call  # type: ignore[return-value]

    return decorate

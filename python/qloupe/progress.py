"""How far work is: a bar in a terminal, one in a notebook, a callable of the user's, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Optional, Union

#: Told the stage, how many of its parts are done, and of how many.
Callback = Callable[[str, int, int], None]

#: True: a bar where somebody sees it. False: nothing. A callable is called.
Progress = Union[bool, Callback]

_BAR_WIDTH = 30
#: A bar for less than this would only flicker.
_QUIET_SECONDS = 0.4


def callback_of(progress: Progress) -> Optional["Shown"]:
    """What the extension calls; None where nobody looks."""
    if progress is False:
        return None
    if progress is not True:
        return Shown(progress, None)
    if _in_notebook():
        bar: Any = NotebookBar()
        return Shown(bar.show, bar.finish)
    if sys.stderr is not None and sys.stderr.isatty():
        bar = TerminalBar()
        return Shown(bar.show, bar.finish)
    return None


class Shown:
    """A callback that is told when the work has ended."""

    def __init__(self, show: Callback, finish: Optional[Callable[[], None]]) -> None:
        self._show, self._finish = show, finish

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._show(stage, done, total)

    def __enter__(self) -> "Shown":
        return self

    def __exit__(self, *_: object) -> None:
        if self._finish is not None:
            self._finish()


class Hidden:
    """The context of work that nobody looks at."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def shown(progress: Progress) -> Union[Shown, Hidden]:
    """A context whose value is the callback."""
    return callback_of(progress) or Hidden()


class TerminalBar:
    """One line on stderr that is written over, and gone at the end."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._width = 0

    def show(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._start < _QUIET_SECONDS:
            return
        filled = _BAR_WIDTH * done // max(total, 1)
        line = f"{stage:15} [{'=' * filled:{_BAR_WIDTH}}] {done}/{total}"
        sys.stderr.write("\r" + line.ljust(self._width))
        sys.stderr.flush()
        self._width = len(line)

    def finish(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()


class NotebookBar:
    """A bar below the cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, stage: str, done: int, total: int) -> None:
        from IPython.display import HTML, display

        bar = HTML(f"{stage} <progress value='{done}' max='{max(total, 1)}'></progress> {done}/{total}")
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)

    def finish(self) -> None:
        if self._handle is not None:
            from IPython.display import HTML

            self._handle.update(HTML(""))


def _in_notebook() -> bool:
    """True in a kernel of Jupyter: looked up, never imported."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"

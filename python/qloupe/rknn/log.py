"""What the vendor's user sees on the console: lines with I, W and E on stderr, and in a file where one is named."""

from __future__ import annotations

import sys
from typing import Optional, Set


class Refusal(Exception):
    """What cannot be done, in one sentence; ``help`` is one action to take."""

    def __init__(self, message: str, help: Optional[str] = None) -> None:
        super().__init__(message)
        self.help = help


class Log:
    """The console of one RKNN object."""

    def __init__(self, verbose: object, file: Optional[str]) -> None:
        self.verbose = bool(verbose)
        self._file = file
        self._said: Set[str] = set()

    def info(self, text: str) -> None:
        """For those who want to know everything."""
        self._write("I", text, to_console=self.verbose)

    def warn(self, text: str) -> None:
        """What the user should know."""
        self._write("W", text)

    def error(self, text: str) -> None:
        """Why the answer is -1."""
        self._write("E", text)

    def once(self, text: str) -> None:
        """What the user should know, but not again and again."""
        if text not in self._said:
            self._said.add(text)
            self.warn(text)

    def _write(self, level: str, text: str, *, to_console: bool = True) -> None:
        line = f"{level} {text}\n"
        if to_console:
            sys.stderr.write(line)
            sys.stderr.flush()
        if self._file is not None:
            try:
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                name, self._file = self._file, None
                self.warn(f"RKNN: verbose_file {name!r} cannot be written: {error}")

"""The console script: the same command line as the program qloupe."""

from __future__ import annotations

import signal
import sys

from ._qloupe import run_command_line


def main() -> int:
    """Runs the command line of this process; Ctrl-C ends it as it ends any program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_command_line(["qloupe", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

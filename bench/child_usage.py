"""Runs a command and writes what it used: `python child_usage.py USAGE.json COMMAND...`. Its exit status is the command's.

A small process of its own, because on Linux the peak of a child begins with what its parent held when it was started.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[2:])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    found = {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }
    Path(sys.argv[1]).write_text(json.dumps(found))
    return 1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())

"""Work that takes its time: Ctrl-C, the GIL, progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import TESTDATA

import qloupe

CALIB = TESTDATA / "fmnist" / "calib"

#: Works again and again, so that a signal always finds work.
LONG = """
import signal, sys, qloupe
# A shell may start programs in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = qloupe.load(sys.argv[1], recipe=sys.argv[2])
quantized = model.build(sys.argv[3], target="rk3588", algorithm="min_max", method="layer", optimization_level=0, progress=False)
report = quantized.analyze(sys.argv[4], costs=False, progress=False)
print("ready", flush=True)
try:
    for _ in range(200):
        CALL
except KeyboardInterrupt:
    print("interrupted", flush=True)
# The process is as good as before.
model.infer(sys.argv[4], progress=False)
print("runs again", flush=True)
"""


CALLS = {
    "build": 'model.build(sys.argv[3], target="rk3588", progress=False)',
    "analyze": 'quantized.analyze(sys.argv[3], depth="exact", costs=False, progress=False)',
    "try_fixes": "quantized.try_fixes(sys.argv[3], n=20, report=report, progress=False)",
    "propose_hybrid": "quantized.propose_hybrid(sys.argv[3], min_sqnr_db=report.outputs[0].metric() + 6, progress=False)",
}


# Windows cannot send SIGINT to one child process: there Ctrl-C goes to the whole console, this test with it.
@pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent to one child process")
@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_work_within_a_second(call):
    fmnist = TESTDATA / "fmnist"
    arguments = [TESTDATA / "models" / "fmnist_vit.onnx", fmnist / "recipe.toml", CALIB, fmnist / "test" / "t10k_0005.png"]
    process = subprocess.Popen([sys.executable, "-c", LONG.replace("CALL", CALLS[call]), *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(120, process.kill)
    alarm.start()
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.7)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    seconds = time.monotonic() - start
    assert process.stdout.readline() == "runs again\n"
    assert process.wait(30) == 0
    alarm.cancel()
    assert seconds < 1.0


def test_other_threads_run_meanwhile(model):
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    model.build(CALIB, target="rk3588", optimization_level=1, progress=False)
    seconds = time.monotonic() - start
    stop.set()
    thread.join()
    # With the GIL held there would be one tick or two.
    assert ticks[0] > 10 * seconds


def test_progress_is_told_in_order(model):
    told = []
    model.build(CALIB, target="rk3588", progress=lambda *news: told.append(news))
    assert told, "the build takes long enough to be told of"
    stages = [stage for stage, _, _ in told]
    assert all(0 <= done <= total for _, done, total in told)
    for stage in set(stages):
        done = [news[1] for news in told if news[0] == stage]
        assert done == sorted(done)


def test_what_progress_raises_ends_the_work(model):
    class Enough(Exception):
        pass

    def progress(*_):
        raise Enough

    with pytest.raises(Enough):
        model.build(CALIB, target="rk3588", progress=progress)
    assert model.infer(TESTDATA / "fmnist" / "test" / "t10k_0005.png")["Identity:0"].any()


def test_bars_are_for_terminals(model, capfd):
    model.build(CALIB, target="rk3588", algorithm="min_max", optimization_level=0, progress=True)
    assert capfd.readouterr().err == ""


def test_a_terminal_bar_leaves_nothing(capfd, monkeypatch):
    from qloupe import progress

    monkeypatch.setattr(progress, "_QUIET_SECONDS", -1.0)
    bar = progress.TerminalBar()
    bar.show("calibrate", 1, 2)
    bar.finish()
    written = capfd.readouterr().err
    assert "calibrate       [===============               ] 1/2" in written
    assert written.endswith(" \r")


def test_a_notebook_bar_is_updated(monkeypatch):
    import types

    from qloupe import progress

    shown = []

    class Handle:
        def update(self, what):
            shown.append(what)

    def display(what, display_id):
        shown.append(what)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = (lambda text: text), display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    bar = progress.NotebookBar()
    bar.show("analyze", 1, 4)
    bar.show("analyze", 4, 4)
    bar.finish()
    assert shown == [
        "analyze <progress value='1' max='4'></progress> 1/4",
        "analyze <progress value='4' max='4'></progress> 4/4",
        "",
    ]

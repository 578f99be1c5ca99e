"""The engines that engines.py measures. A measurement is a function that does one pass and gives its milliseconds."""

import json
import math
import subprocess
import sys
import time

from engine_models import random_input


def best_ms(run, seconds):
    """The fastest of as many runs as fit into the time, at least 3, after one that is not timed."""
    run()
    best, n, end = math.inf, 0, time.perf_counter() + seconds
    while n < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best, n = min(best, time.perf_counter() - start), n + 1
    return best * 1e3


class Qloupe:
    def __init__(self, program, seconds):
        self.program, self.seconds = str(program), seconds

    def call(self, *arguments):
        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def bench(self, model, threads, *options, batch=None, runs=3):
        shape = model.shape_option(batch)
        return json.loads(self.call("bench", model.path, *shape, "--threads", threads, "--runs", runs, "--json", *options))

    def passes(self, model, threads, *options, batch=None):
        """A function that measures one pass: a process whose runs take about the time of a pass."""
        probe = self.bench(model, threads, *options, batch=batch)["latency_ms"]["min"]
        runs = min(max(3, int(self.seconds * 1e3 / probe)), 1000)
        return lambda: self.bench(model, threads, *options, batch=batch, runs=runs)


def ort_session(path, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ort_latency(path, model, threads, seconds, batch=None):
    session, given = ort_session(path, threads), {model.input: random_input(model.shape(batch))}
    return lambda: best_ms(lambda: session.run(None, given), seconds)


def openvino_latency(path, model, threads, seconds, is_float, batch=None):
    import openvino

    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(model.shape(batch)))
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    if is_float:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(network, "CPU", config).create_infer_request()
    x = random_input(model.shape(batch))
    return lambda: best_ms(lambda: request.infer([x], share_inputs=True), seconds)


def busy_share(seconds=0.05):
    """The part of all processors that others kept busy just now; 0 where the system does not tell."""

    def times():
        try:
            fields = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
        except OSError:
            return 0, 0
        return sum(fields) - fields[3] - fields[4], sum(fields)

    before = times()
    time.sleep(seconds)
    after = times()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def wait_for_quiet(seconds):
    """Lets the threads of the last engine stop spinning, and waits a while for other work to end."""
    end = time.monotonic() + seconds
    while busy_share() > 0.15 and time.monotonic() < end:
        pass


def interleave(engines, n_passes, patience):
    """The minima of passes in which the engines take turns: {name: ms}; one that gives several figures names them.

    None stands for an engine that cannot run the model.
    """
    best = {name: None for name in engines}
    for _ in range(n_passes):
        for name, measure in engines.items():
            if measure is None:
                continue
            wait_for_quiet(patience)
            found = measure()
            for key, ms in found.items() if isinstance(found, dict) else [(name, found)]:
                best[key] = ms if best.get(key) is None else min(best[key], ms)
    return best


def vm_hwm():
    """The most memory that this process held, in bytes. It counts from exec on, unlike ru_maxrss."""
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def ort_memory(path, threads, name, *shape):
    """Memory at most of this process before ONNX Runtime is imported, and after load and two runs."""
    x = random_input([int(dim) for dim in shape])
    python = vm_hwm()
    session = ort_session(path, int(threads))
    for _ in range(2):
        session.run(None, {name: x})
    return {"python": python, "peak": vm_hwm()}


if __name__ == "__main__":
    print(json.dumps(ort_memory(*sys.argv[1:])))

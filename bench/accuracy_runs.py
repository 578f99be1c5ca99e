"""Quantizing a model with qloupe or a peer in a process of its own, and running what came out."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

import accuracy_peers
import child_usage
from accuracy_metrics import Outputs, judge
from accuracy_peers import Peer
from accuracy_samples import Samples
from accuracy_tasks import Task

OPTION_HELP = re.compile(r"--algorithm\b.*?(?=\n\s+-|\Z)", re.DOTALL)
ONE_OF = re.compile(r"(?:one of|possible values:) ([\w, -]+)", re.IGNORECASE)


class ToolError(Exception):
    """A tool could not do its work; the text is the last line it said."""


@dataclass(frozen=True)
class Row:
    """What is measured: one way to quantize a model."""

    tool: str
    algorithm: str
    method: str
    target: str = "onnxruntime"
    level: int | None = None

    def name(self) -> str:
        parts = [self.tool, self.algorithm, self.method, self.target, "" if self.level is None else str(self.level)]
        return ".".join(part for part in parts if part)


def measured(command: list, log: Path) -> dict[str, float]:
    """Runs a command and gives its seconds, processor seconds and peak memory."""
    usage = log.with_suffix(".usage.json")
    wrapped = [sys.executable, child_usage.__file__, usage, *command]
    done = subprocess.run(list(map(str, wrapped)), capture_output=True, text=True)
    log.write_text(done.stdout + done.stderr)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ToolError(next((line for line in said if line.startswith("error:")), said[-1]))
    return json.loads(usage.read_text())


def run_session(path: Path, samples: list[Path]) -> Outputs:
    """The first output of every sample, in ONNX Runtime with its optimizations; it leaves the processors to others while it waits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
        return [session.run([output], {name: np.load(sample)})[0] for sample in samples]
    except Exception as error:  # ONNX Runtime's own exceptions share no other base.
        raise ToolError(f"ONNX Runtime: {error}") from error


class Qloupe:
    """The program that is measured."""

    def __init__(self, program: Path):
        self.program = program.resolve()

    def says(self, *arguments: object) -> str:
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        return done.stdout + done.stderr

    def algorithms(self, model: Path) -> list[str]:
        """The algorithms that it names in the help of `build`, or else when it is asked for one that is none."""
        option = OPTION_HELP.search(self.says("build", "--help"))
        known = ONE_OF.search(option[0]) if option else None
        if not known:
            wrong = ["--target", "onnxruntime", "--dataset", model, "--algorithm", "?"]
            known = ONE_OF.search(self.says("build", model, *wrong))
        if not known:
            raise ToolError(f"{self.program} does not name its algorithms")
        return [name for name in re.split(r", (?:or )?| or ", known[1].strip()) if name]

    def build(self, row: Row, model: Path, samples: Samples, out: Path) -> dict[str, float]:
        options = {
            "--target": row.target,
            "--dataset": samples.list_of("calibration"),
            "--algorithm": row.algorithm,
            "--method": row.method,
            "--optimization-level": row.level,
            "--output": out,
        }
        arguments = [part for option in options.items() for part in option]
        return measured([self.program, "build", model, "--quiet", *arguments], out.with_suffix(".log"))

    def simulate(self, model: Path, plan: Path, samples: Samples) -> Outputs:
        """What the target would compute: `infer --plan`, once for each shape of samples."""
        shapes = {path: np.load(path, mmap_mode="r").shape for path in samples.test}
        output = onnxruntime.InferenceSession(str(model)).get_outputs()[0].name
        found: dict[Path, np.ndarray] = {}
        for shape in sorted(set(shapes.values())):
            paths = [path for path in samples.test if shapes[path] == shape]
            chosen = plan.with_suffix(".inputs.txt")
            chosen.write_text("".join(f'"{path}"\n' for path in paths))
            out = plan.with_suffix(".outputs.npz")
            options = ["--plan", plan, "--input", chosen, "--out", out, "--quiet"]
            measured([self.program, "infer", model, *options], plan.with_suffix(".log"))
            found |= zip(paths, np.load(out)[output][:, None] if len(paths) > 1 else [np.load(out)[output]])
        return [found[path] for path in samples.test]


def quantize_with_peer(row: Row, task: Task, model: Path, samples: Samples, out: Path) -> dict[str, float]:
    """Quantizes, unless an earlier run left the model."""
    usage = out.with_suffix(".usage.json")
    if out.exists() and usage.exists():
        return json.loads(usage.read_text())
    command = [sys.executable, accuracy_peers.__file__, row.tool, row.algorithm, row.method, model]
    command += [samples.list_of("calibration"), out, *(["--transformer"] if task.transformer else [])]
    return measured(command, out.with_suffix(".log"))


class Subject:
    """A model with its samples and its float outputs, ready to be quantized in many ways.

    What peers write goes to `peers`, where a later run finds it, what qloupe writes to `built`.
    """

    def __init__(self, task: Task, model: Path, samples: Samples, peers: Path, built: Path):
        self.task, self.model, self.samples = task, model, samples
        self.peers, self.built = (folder / f"{task.model}.{len(samples.calibration)}" for folder in (peers, built))
        for folder in (self.peers, self.built):
            folder.mkdir(parents=True, exist_ok=True)
        self.reference = run_session(model, samples.test)
        metadata = onnxruntime.InferenceSession(str(model)).get_modelmeta().custom_metadata_map
        self.characters = metadata.get("character", "")

    def judged(self, row: Row, usage: dict[str, float], outputs: Outputs) -> dict:
        figures = judge(self.task.kind, self.reference, outputs, self.samples.labels, self.characters)
        return {**vars(row), **usage, **figures}

    def float_figures(self) -> dict:
        return self.judged(Row("float", "", "", ""), {}, self.reference)

    def measure_qloupe(self, qloupe: Qloupe, row: Row) -> dict:
        out = self.built / f"{row.name()}.onnx"
        try:
            usage = qloupe.build(row, self.model, self.samples, out)
            if row.target == "onnxruntime":
                outputs = run_session(out, self.samples.test)
            else:
                outputs = qloupe.simulate(self.model, out.with_suffix(".plan.toml"), self.samples)
        except ToolError as error:
            return failed(row, error)
        return self.judged(row, usage, outputs)

    def measure_peer(self, peer: Peer, row: Row) -> dict:
        out = self.peers / f"{row.name()}.onnx"
        versioned = replace(row, tool=f"{row.tool} {peer.version()}")
        try:
            usage = quantize_with_peer(row, self.task, self.model, self.samples, out)
            outputs = run_session(out, self.samples.test)
        except ToolError as error:
            return failed(versioned, error)
        return self.judged(versioned, usage, outputs)


def failed(row: Row, error: Exception) -> dict:
    said = str(error).splitlines() or ["no message"]
    return {**vars(row), "error": said[0][:200]}

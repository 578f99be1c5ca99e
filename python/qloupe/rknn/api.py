"""The class RKNN: the vendor's methods, defaults and return codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import qloupe

from .._qloupe import copy_model
from ..progress import shown
from ..quantized import Quantized
from ..samples import Array, Samples
from . import cfg, config, hybrid, inference, loaders, performance, snapshot, vendor
from .answers import answers
from .log import Log, Refusal
from .not_offered import NotOffered
from .proposal import propose
from .state import State, before_mean_and_std, open_model, opening

#: Samples that the vendor's own calibration sees in export_rknn; its ranges are replaced by ours.
_N_EXPORT_SAMPLES = 32
#: Samples that layers of build(auto_hybrid=True) are raised on, at most.
_N_PROPOSAL_SAMPLES = 16
#: What stands behind a line of the vendor's table.
_LEGEND = "cosine below 0.99: slightly inconsistent; below 0.98: this layer is wrong"


class RKNN(NotOffered):
    """A model on its way to a Rockchip NPU, simulated on the PC. One object is one model."""

    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1 = 3
    NPU_CORE_0_1_2 = 7
    NPU_CORE_ALL = 0xFFFF

    def __init__(self, verbose: Union[bool, str] = False, verbose_file: Optional[str] = None) -> None:
        self._log = Log(verbose, verbose_file)
        self._state = State()

    # Configuration and loading.

    def config(self, *positional: Any, **given: Any) -> int:
        """Says how inputs are normalized and how the model is quantized: docs/tutorial/migration.md lists every parameter."""
        names = list(config.DEFAULTS)
        try:
            if len(positional) > len(names):
                raise Refusal(f"{len(positional)} arguments, expected at most {len(names)}")
            by_name = dict(zip(names, positional))
            twice = [name for name in by_name if name in given]
            if twice:
                raise Refusal(f"'{twice[0]}' is given twice, expected it once")
            self._state.config = config.parse({**by_name, **given}, self._log)
        except Refusal as refusal:
            self._state.config, self._state.config_failure = None, str(refusal)
            self._log.error(f"config: {refusal}")
            if refusal.help is not None:
                self._log.error(f"help: {refusal.help}")
            return -1
        return 0

    @answers(-1)
    def load_onnx(
        self,
        model: str,
        inputs: Optional[Sequence[str]] = None,
        input_size_list: Optional[Sequence[Sequence[int]]] = None,
        input_initial_val: Optional[Sequence[Any]] = None,
        outputs: Optional[Sequence[str]] = None,
    ) -> int:
        """Loads an ONNX model, or the part of it between ``inputs`` and ``outputs``."""
        if input_initial_val is not None:
            raise Refusal("input_initial_val is not supported, expected None: make the input a constant of the model")
        shapes = None if input_size_list is None else loaders.checked_shapes(input_size_list, "load_onnx")
        return self._load(os.fspath(model), _names(inputs, "inputs"), shapes, _names(outputs, "outputs"))

    @answers(-1)
    def load_pytorch(self, model: str, input_size_list: Sequence[Sequence[int]]) -> int:
        """Loads a TorchScript file through torch.onnx (``pip install qloupe[pytorch]``)."""
        self._state.require_config()
        output = self._state.temporary() / f"{Path(model).stem}.onnx"
        loaders.from_pytorch(model, loaders.checked_shapes(input_size_list, "load_pytorch"), output)
        return self._load(str(output), None, None, None)

    @answers(-1)
    def load_tflite(self, model: str, input_is_nchw: bool = False) -> int:
        """Loads a TFLite file through tf2onnx (``pip install qloupe[tflite]``)."""
        self._state.require_config()
        if input_is_nchw:
            self._log.once("load_tflite: input_is_nchw is not honoured: the model keeps its own layout")
        output = self._state.temporary() / f"{Path(model).stem}.onnx"
        loaders.from_tflite(model, output)
        return self._load(str(output), None, None, None)

    @answers(-1)
    def load_tensorflow(
        self,
        tf_pb: str,
        inputs: Sequence[str],
        input_size_list: Sequence[Sequence[int]],
        outputs: Sequence[str],
        input_is_nchw: bool = False,
    ) -> int:
        """Loads a frozen graph through tf2onnx (``pip install qloupe[tensorflow]``)."""
        self._state.require_config()
        if input_is_nchw:
            self._log.once("load_tensorflow: input_is_nchw is not honoured: the model keeps its own layout")
        shapes = loaders.checked_shapes(input_size_list, "load_tensorflow")
        output = self._state.temporary() / f"{Path(tf_pb).stem}.onnx"
        loaders.from_tensorflow(tf_pb, inputs, outputs, output)
        return self._load(str(output), None, shapes, None)

    def _load(
        self,
        path: str,
        inputs: Optional[List[str]],
        shapes: Optional[List[List[int]]],
        outputs: Optional[List[str]],
    ) -> int:
        parsed = self._state.require_config()
        load: Dict[str, Any] = {"model": path, "inputs": inputs, "input_size_list": shapes, "outputs": outputs}
        model = open_model(parsed, load)
        if load["input_size_list"] is None:
            load["inputs"] = [each.name for each in model.inputs]
            load["input_size_list"] = [[size or 1 for size in each.shape] for each in model.inputs]
        load["model"] = os.path.abspath(path)
        state = self._state
        state.model, state.load = model, load
        state.quantized = state.calibration = None
        state.is_runtime_ready = False
        return 0

    # Building.

    @answers(-1)
    def build(
        self,
        do_quantization: bool = True,
        dataset: Optional[str] = None,
        rknn_batch_size: Optional[int] = None,
        auto_hybrid: bool = False,
    ) -> int:
        """Quantizes the model on the samples of a dataset.txt, or makes it float16."""
        self._say_batch_size("build", rknn_batch_size)
        state = self._state
        parsed, model = state.require_config(), state.require_model()
        if not do_quantization:
            state.quantized, state.calibration = self._not_quantized(model, dataset, auto_hybrid), None
        else:
            quantized, samples = self._quantize(dataset)
            if auto_hybrid:
                judged = samples.first(_N_PROPOSAL_SAMPLES)
                quantized = propose(quantized, judged, parsed.cos_thresh, parsed.euc_thresh, self._log, "build").quantized
            state.quantized, state.calibration = quantized, samples
        state.dataset = dataset
        state.is_runtime_ready = False
        self._say_built("build")
        return 0

    def _not_quantized(self, model: qloupe.Model, dataset: Optional[str], auto_hybrid: bool) -> Quantized:
        if model.is_quantized:
            parsed = self._state.require_config()
            return qloupe.load_quantized(model.path, target=parsed.target, **opening(parsed, self._state.load))
        if not auto_hybrid:
            if dataset is not None:
                self._log.once("build: dataset is not needed for do_quantization=False and is not read")
            return model.build(precision="fp16", progress=True)
        if dataset is None:
            raise Refusal("auto_hybrid=True needs samples, expected dataset='dataset.txt', got None")
        self._log.once("build: layers that overflow float16 stay float32 here, where the vendor makes them int16")
        return model.build(dataset, precision="fp16", progress=True)

    def _quantize(self, dataset: Optional[str]) -> "tuple[Quantized, Samples]":
        parsed, model = self._state.require_config(), self._state.require_model()
        if dataset is None:
            raise Refusal("do_quantization=True needs samples, expected dataset='dataset.txt', got None")
        samples = model.samples(dataset)
        with shown(True) as callback:
            handle = model._handle.build(
                parsed.target,
                samples._handle,
                algorithm=parsed.algorithm,
                method=parsed.method,
                optimization_level=parsed.own_level,
                as_converted=True,
                progress=callback,
            )
        self._log.info(f"build: calibrated on {len(samples)} samples of {dataset}")
        return Quantized(handle, model), samples

    def _say_batch_size(self, method: str, rknn_batch_size: Optional[int]) -> None:
        if rknn_batch_size not in (None, 1):
            self._log.once(f"{method}: rknn_batch_size is for the vendor's compiler: one sample is simulated at a time")

    def _say_built(self, method: str) -> None:
        quantized = self._state.require_quantized()
        self._log.info(f"{method}: {quantized!r}")
        for op_type, n in quantized.operators_in_float.items():
            self._log.once(f"{method}: {quantized.target} has no integers for {op_type}: {n} units compute in float16, between casts")
        for note in quantized.notes:
            self._log.info(f"{method}: {note}")

    # Hybrid quantization.

    @answers(-1)
    def hybrid_quantization_step1(
        self,
        dataset: Optional[str] = "dataset.txt",
        rknn_batch_size: Optional[int] = None,
        proposal: bool = False,
        proposal_dataset_size: int = 1,
        custom_hybrid: Optional[Sequence[Sequence[str]]] = None,
    ) -> int:
        """Writes NAME.model, NAME.data and NAME.quantization.cfg into the current folder; the last one is edited by hand."""
        self._say_batch_size("hybrid_quantization_step1", rknn_batch_size)
        parsed, model = self._state.require_config(), self._state.require_model()
        _require_values(parsed, "build")
        quantized, samples = self._quantize(dataset)
        layers: Dict[str, Optional[str]] = {}
        if proposal:
            first = samples.first(_proposal_size(proposal_dataset_size))
            raised = propose(quantized, first, parsed.cos_thresh, parsed.euc_thresh, self._log, "hybrid_quantization_step1")
            layers.update(raised.layers)
        for name in hybrid.between(model, quantized, custom_hybrid or ()):
            layers.setdefault(name, None)
        stem = Path(self._state.load["model"]).stem
        copy_model(self._state.load["model"], f"{stem}.model")
        stored = cfg.Stored(
            config=parsed.given,
            load={**self._state.load, "model": None},
            dataset=os.path.abspath(str(dataset)),
            plan=quantized.plan_text,
        )
        cfg.write_data(Path(f"{stem}.data"), stored)
        cfg.write_cfg(Path(f"{stem}.quantization.cfg"), quantized, layers)
        self._log.info(f"hybrid_quantization_step1: edit custom_quantize_layers in {stem}.quantization.cfg, then call step 2")
        return 0

    @answers(-1)
    def hybrid_quantization_step2(self, model_input: str, data_input: str, model_quantization_cfg: str) -> int:
        """Builds with the files of step 1 and what was edited in them."""
        state = self._state
        stored = cfg.read_data(Path(data_input))
        if not Path(model_input).is_file():
            raise Refusal(f"model_input {model_input!r} does not exist, expected the file of hybrid_quantization_step1")
        if state.config is None:
            state.config = config.parse(stored.config, self._log)
        load = {**stored.load, "model": os.path.abspath(model_input)}
        state.model, state.load = open_model(state.config, load), load
        quantized = hybrid.with_plan_text(state.model, stored.plan)
        state.quantized = hybrid.edited(quantized, Path(model_quantization_cfg), self._log)
        state.dataset = stored.dataset
        state.calibration = state.model.samples(stored.dataset) if Path(stored.dataset).exists() else None
        state.is_runtime_ready = False
        self._say_built("hybrid_quantization_step2")
        return 0

    # Running and comparing.

    @answers(-1)
    def init_runtime(
        self,
        target: Optional[str] = None,
        device_id: Optional[str] = None,
        perf_debug: bool = False,
        eval_mem: bool = False,
        async_mode: bool = False,
        core_mask: int = NPU_CORE_AUTO,
        fallback_prior_device: str = "cpu",
    ) -> int:
        """Makes the simulator ready."""
        self._state.require_quantized()
        if target is not None or device_id is not None:
            raise Refusal(_no_device(target, device_id))
        for name, value, default in (
            ("perf_debug", perf_debug, False),
            ("eval_mem", eval_mem, False),
            ("async_mode", async_mode, False),
            ("core_mask", core_mask, RKNN.NPU_CORE_AUTO),
            ("fallback_prior_device", fallback_prior_device, "cpu"),
        ):
            if value != default:
                self._log.once(f"init_runtime: {name} is for the device and changes nothing in the simulator")
        self._state.is_runtime_ready = True
        return 0

    @answers(None)
    def inference(
        self,
        inputs: Any,
        data_format: Union[None, str, Sequence[str]] = None,
        inputs_pass_through: Optional[Sequence[int]] = None,
        get_frame_id: bool = False,
    ) -> Optional[List[Array]]:
        """Runs the model as the target would; the outputs as float32, in the order of the model. None where that fails."""
        state = self._state
        quantized = state.require_quantized()
        if not state.is_runtime_ready:
            raise Refusal("the runtime is not ready, expected a call of init_runtime first")
        if inputs_pass_through is not None and any(inputs_pass_through):
            raise Refusal("inputs_pass_through is for the device, expected None: the simulator quantizes inputs itself")
        if get_frame_id:
            self._log.once("inference: get_frame_id is for the device and is not honoured")
        config_ = state.require_config()
        arrays = inference.fed(config_, state.require_model(), inputs, data_format, self._log)
        return list(quantized._handle.infer_arrays(arrays, mode=_mode(quantized)).values())

    @answers(-1)
    def accuracy_analysis(
        self,
        inputs: Sequence[str],
        output_dir: Optional[str] = "./snapshot",
        target: Optional[str] = None,
        device_id: Optional[str] = None,
        text_dumps: bool = False,
    ) -> int:
        """Prints the vendor's table of every layer's error and writes it, with every value as .npy, to ``output_dir``.

        With a ``target`` the simulator's part is finished, and the answer is -1: no device is known. ``text_dumps`` (ours)
        writes the values as text, too.
        """
        quantized, model = self._state.require_quantized(), self._state.require_model()
        samples = _samples_of(model, inputs)
        folder = None if output_dir is None else Path(output_dir)
        report = snapshot.analyze(quantized, samples, folder)
        if folder is not None and text_dumps:
            snapshot.write_text_dumps(folder)
        print(report.to_text("txt"))
        for finding in report.findings:
            where = f" '{finding.layer}'" if finding.layer else ""
            print(f"{finding.severity}{where}: {finding.cause} ({finding.evidence}); {finding.fix}")
        print(_LEGEND)
        if folder is not None:
            self._log.info(f"accuracy_analysis: wrote {folder}")
        if target is not None or device_id is not None:
            raise Refusal(f"the simulator's part is done; {_no_device(target, device_id)}")
        return 0

    @answers(None)
    def eval_perf(self, is_print: bool = True, fix_freq: bool = True) -> Optional[str]:
        """The time of every layer on this CPU, labelled so; the device is not measured."""
        quantized = self._state.require_quantized()
        if fix_freq is not True:
            self._log.once("eval_perf: fix_freq is for the device and changes nothing here")
        text = performance.performance_text(quantized)
        if is_print:
            print(text)
        return text

    @answers(None)
    def eval_memory(self, is_print: bool = True) -> Optional[Dict[str, int]]:
        """Estimates of the memory on the target, labelled so."""
        figures = performance.memory_figures(self._state.require_quantized())
        if is_print:
            print(performance.memory_text(figures))
        return figures

    # Writing.

    @answers(-1)
    def export_rknn(self, export_path: str, **options: Any) -> int:
        """Compiles by the vendor's own package, with our ranges and precisions; without it, writes what it takes to do so."""
        if options:
            self._log.once(f"export_rknn: {', '.join(options)} is not honoured")
        state = self._state
        quantized, parsed, path = state.require_quantized(), state.require_config(), Path(export_path)
        samples = state.calibration
        if quantized.target != "fp16":
            _require_values(parsed, "the vendor's own package with the same config: it takes no scales of weights from others")
        if not vendor.is_installed():
            written = self._instead_of_rknn(quantized, path)
            raise Refusal(
                f"{path} is not written: only the vendor's package rknn-toolkit2 writes .rknn files, expected it to be installed",
                f"written instead: {written}",
            )
        arrays = []
        if samples is not None:
            arrays = before_mean_and_std(parsed, state.require_model(), samples, _N_EXPORT_SAMPLES)
        elif quantized.target != "fp16":
            raise Refusal("the calibration samples are gone, expected the dataset of the build")
        vendor.export(quantized, parsed, state.load, samples, arrays, path, self._log)
        self._log.info(f"export_rknn: wrote {path}")
        return 0

    def _instead_of_rknn(self, quantized: Quantized, path: Path) -> str:
        model = path.with_suffix(".onnx")
        plan = quantized.save(model)
        written = [str(model), str(plan)]
        if quantized.target != "fp16" and self._state.dataset is not None:
            folder = path.with_suffix(".rknn-script")
            quantized.export("rknn-script", folder, dataset=self._state.dataset)
            written.append(str(folder / "convert.py"))
        return ", ".join(written)

    # The rest.

    def list_devices(self) -> "tuple[List[str], List[str]]":
        """No device is known here."""
        self._log.warn("list_devices: no device is known, only the simulator")
        return [], []

    def get_sdk_version(self) -> str:
        """What simulates, and that no device does."""
        text = f"qloupe {qloupe.__version__}, simulator of the PC; no device"
        print(text)
        return text

    def clear_op_cache(self) -> int:
        """There is no such cache."""
        return 0

    def release(self) -> None:
        """Lets everything go."""
        if self._state.folder is not None:
            self._state.folder.cleanup()
        self._state = State()


def _require_values(parsed: config.Config, instead: str) -> None:
    if parsed.has_only_weights:
        raise Refusal(f"{parsed.target} has integer weights only, expected a configuration with integer values", f"use {instead}")


def _mode(quantized: Quantized) -> str:
    return "fake-quant" if quantized.target == "fp16" else "integer"


def _proposal_size(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise Refusal(f"proposal_dataset_size: expected a number of samples, at least 1, got {size!r}")
    return size


def _no_device(target: Optional[str], device_id: Optional[str]) -> str:
    named = ", ".join(str(each) for each in (target, device_id) if each is not None)
    return f"no device is known ({named}), expected target=None for the simulator"


def _names(names: Any, what: str) -> Optional[List[str]]:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise Refusal(f"{what}: expected a list of names, got {names!r}")
    return list(names)


def _samples_of(model: qloupe.Model, inputs: Any) -> Samples:
    """One path for each input; for a model of one input, several paths are several samples."""
    if isinstance(inputs, str) or not isinstance(inputs, (list, tuple)) or not inputs:
        raise Refusal(f"inputs: expected a list of paths, one for each input, got {inputs!r}")
    names = [each.name for each in model.inputs]
    if len(names) == 1:
        return model.samples([str(path) for path in inputs])
    if len(inputs) != len(names):
        raise Refusal(f"{len(inputs)} inputs, expected {len(names)}, one for each of {', '.join(names)}")
    return model.samples([f"{name}={path}" for name, path in zip(names, inputs)])

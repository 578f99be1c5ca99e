"""What ``RKNN.config`` takes: names of old and new releases, defaults, what is honoured and what is not."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from numbers import Real
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import qloupe

from .log import Log, Refusal

#: Every parameter with the vendor's default, in its order.
DEFAULTS: Dict[str, Any] = {
    "mean_values": None,
    "std_values": None,
    "quantized_dtype": "w8a8",
    "quantized_algorithm": "normal",
    "quantized_method": "channel",
    "quantized_hybrid_level": 0,
    "target_platform": None,
    "quant_img_RGB2BGR": False,
    "float_dtype": "float16",
    "optimization_level": 3,
    "custom_string": None,
    "remove_weight": False,
    "compress_weight": False,
    "inputs_yuv_fmt": None,
    "single_core_mode": False,
    "dynamic_input": None,
    "model_pruning": False,
    "op_target": None,
    "quantize_weight": False,
    "remove_reshape": False,
    "sparse_infer": False,
    "mini_rknn": False,
    "enable_flash_attention": False,
    "auto_hybrid_cos_thresh": 0.98,
    "auto_hybrid_euc_thresh": None,
    "memory_plan_strategy": "BestFit",
    "compute_order": "WidthFirst",
    "compiler_control_file": None,
}

#: Parameters of old releases, and of the vendor's that it does not document.
_HIDDEN = ("disable_rules", "output_optimize", "reorder_channel", "batch_size", "epochs", "quantize_input_node")
#: Parameters that only the vendor's compiler reads: they reach it in ``export_rknn`` and change nothing in a simulation.
COMPILER_ONLY = (
    "custom_string", "remove_weight", "compress_weight", "single_core_mode", "op_target", "quantize_weight",
    "remove_reshape", "sparse_infer", "mini_rknn", "enable_flash_attention", "memory_plan_strategy", "compute_order",
    "compiler_control_file",
)  # fmt: skip

_W8A8 = ("w8a8", "asymmetric_quantized-8", "asymmetric_quantized-u8", "asymmetric_affine-u8")
#: Integer weights beside float16 values: on some platforms, whose targets have them in their names.
_WEIGHTS_ONLY = ("w4a16", "w8a16")
#: What is refused, and what to do instead.
_OTHER_DTYPES = {
    "asymmetric_quantized-16": "use do_quantization=False (fp16), or raise single layers to float16 by hybrid quantization",
    "w16a16i": "use do_quantization=False (fp16)",
    "w16a16i_dfp": "use do_quantization=False (fp16)",
    "dynamic_fixed_point-i16": "use do_quantization=False (fp16)",
    "dynamic_fixed_point-i8": "use 'w8a8'",
    "w4a8": "use 'w8a8'",
}
_GDQ_ADVICE = "use 'normal', 'kl_divergence', 'mmse' or 'auto'"
#: Chips that the vendor compiles for and that quantize as another one does.
_SAME_AS = {"rv1103b": "rv1103", "rv1106b": "rv1106", "rk2118": "rk3588", "rk3588s": "rk3588", "rk3566_rk3568": "rk3566"}


@dataclass
class Config:
    """What was asked for, checked."""

    #: One list of numbers for each input, or None.
    mean_values: Optional[List[List[float]]]
    std_values: Optional[List[List[float]]]
    algorithm: str
    method: str
    target: str
    #: The target as the user wrote it.
    platform: str
    rgb2bgr: List[bool]
    optimization_level: int
    cos_thresh: Optional[float]
    euc_thresh: Optional[float]
    #: Everything that was given, for the vendor's own tool.
    given: Dict[str, Any]

    @property
    def has_only_weights(self) -> bool:
        """Whether weights are integers and values float16."""
        return self.target.endswith(_WEIGHTS_ONLY)

    @property
    def own_level(self) -> int:
        """The level of qloupe. Levels 1 to 3 of the vendor's switch rewrites of its own graph; ours above 1 change weights,
        which its converter does not take over."""
        return min(self.optimization_level, 1)

    def of_input(self, position: int) -> Tuple[Optional[List[float]], Optional[List[float]], bool]:
        """mean, std and whether pictures are BGR, of one input."""

        def pick(values: Optional[List[List[float]]]) -> Optional[List[float]]:
            return values[position] if values is not None and position < len(values) else None

        bgr = self.rgb2bgr[position] if position < len(self.rgb2bgr) else self.rgb2bgr[-1] if len(self.rgb2bgr) == 1 else False
        return pick(self.mean_values), pick(self.std_values), bgr


def parse(given: Mapping[str, Any], log: Log) -> Config:
    """The configuration, or the first thing that is wrong with it."""
    _refuse_unknown(given)
    values = {**DEFAULTS, **given}
    dtype = values["quantized_dtype"]
    _check_dtype(dtype)
    if values["float_dtype"] != "float16":
        raise Refusal(f"float_dtype: expected 'float16', got {values['float_dtype']!r}")
    for name, why in (
        ("dynamic_input", "several shapes in one model are not simulated; give one with load_onnx(inputs, input_size_list)"),
        ("inputs_yuv_fmt", "YUV inputs are not simulated; give RGB or BGR pictures"),
        ("model_pruning", "pruning changes the model; prune it before export"),
    ):
        if values[name]:
            raise Refusal(f"{name} is not supported, expected {DEFAULTS[name]!r}: {why}")
    if values["quantized_hybrid_level"] not in (0, None):
        log.once("config: quantized_hybrid_level is not honoured; build(auto_hybrid=True) or hybrid_quantization_step1 raise layers")
    for name in COMPILER_ONLY:
        if values[name] != DEFAULTS[name]:
            log.once(f"config: {name} is for the vendor's compiler: it changes nothing here and is handed over by export_rknn")
    platform = values["target_platform"]
    return Config(
        mean_values=_per_input("mean_values", values["mean_values"]),
        std_values=_per_input("std_values", values["std_values"]),
        algorithm=_algorithm(values["quantized_algorithm"]),
        method=_method(values["quantized_method"], dtype),
        target=_target(platform, dtype),
        platform=str(platform).lower(),
        rgb2bgr=_flags(values["quant_img_RGB2BGR"]),
        optimization_level=_level(values["optimization_level"]),
        cos_thresh=_threshold("auto_hybrid_cos_thresh", values["auto_hybrid_cos_thresh"]),
        euc_thresh=_threshold("auto_hybrid_euc_thresh", values["auto_hybrid_euc_thresh"]),
        given=dict(given),
    )


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name in given:
        if name in DEFAULTS:
            continue
        if name in _HIDDEN:
            raise Refusal(f"'{name}' is a parameter of another release of the vendor's and is not supported, expected none")
        raise Refusal(f"unknown parameter '{name}'{_nearest(name, list(DEFAULTS))}")


def _nearest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean '{found[0]}'?" if found else f", expected one of {', '.join(known)}"


def _check_dtype(dtype: Any) -> None:
    if dtype in _W8A8 or dtype in _WEIGHTS_ONLY:
        return
    if dtype in _OTHER_DTYPES:
        raise Refusal(f"quantized_dtype '{dtype}' is not supported, expected 'w8a8'", _OTHER_DTYPES[dtype])
    raise Refusal(f"unknown quantized_dtype {dtype!r}, expected 'w8a8' ('asymmetric_quantized-8' in older releases)")


def _algorithm(name: Any) -> str:
    if name == "gdq":
        raise Refusal("quantized_algorithm 'gdq' is for 4-bit weights and is not supported", _GDQ_ADVICE)
    known = {alias: each.id for each in qloupe.algorithms() for alias in [each.id, *each.aliases]}
    if name not in known:
        choices = "'normal', 'mmse', 'kl_divergence'; also 'auto', 'percentile', 'octav', 'moving_average'"
        raise Refusal(f"unknown quantized_algorithm {name!r}, expected one of {choices}")
    return known[name]


def _method(name: Any, dtype: Any) -> str:
    if name == "group32" and dtype == "w4a16":
        return "block"
    if isinstance(name, str) and name.startswith("group"):
        raise Refusal(
            f"quantized_method '{name}' with quantized_dtype '{dtype}' is not supported, expected 'channel' or 'layer'",
            "'group32' is for 'w4a16'",
        )
    if name not in ("channel", "layer"):
        raise Refusal(f"unknown quantized_method {name!r}, expected 'channel' or 'layer'")
    return str(name)


def _target(platform: Any, dtype: Any) -> str:
    targets = [each.id for each in qloupe.targets() if each.id.startswith(("rk", "rv"))]
    known = [target for target in targets if not target.endswith(_WEIGHTS_ONLY)]
    if platform is None:
        raise Refusal(f"target_platform is missing, expected one of {', '.join(known)}")
    name = str(platform).lower()
    name = _SAME_AS.get(name, name)
    if name not in known:
        raise Refusal(f"unknown target_platform {platform!r}{_nearest(name, [*known, *_SAME_AS])}")
    if dtype not in _WEIGHTS_ONLY:
        return name
    if f"{name}-{dtype}" not in targets:
        platforms = [target for target in known if f"{target}-{dtype}" in targets]
        raise Refusal(f"quantized_dtype '{dtype}' is not for {platform}, expected 'w8a8'", f"it is for {', '.join(platforms)}")
    return f"{name}-{dtype}"


def _level(level: Any) -> int:
    if isinstance(level, bool) or level not in (0, 1, 2, 3):
        raise Refusal(f"optimization_level: expected 0 to 3, got {level!r}")
    return int(level)


def _threshold(name: str, value: Any) -> Optional[float]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise Refusal(f"{name}: expected a number or None, got {value!r}")
    return float(value)


def _flags(value: Any) -> List[bool]:
    flags = list(value) if isinstance(value, (list, tuple)) else [value]
    if not flags or any(not isinstance(flag, bool) for flag in flags):
        raise Refusal(f"quant_img_RGB2BGR: expected True, False or a list of them, one for each input, got {value!r}")
    return flags


def _per_input(name: str, value: Any) -> Optional[List[List[float]]]:
    """One list of numbers for each input. A flat list is of the only input, as in older releases."""
    if value is None:
        return None
    wrong = Refusal(f"{name}: expected a list of numbers for each input, such as [[127.5, 127.5, 127.5]], got {value!r}")
    if not isinstance(value, (list, tuple)) or not value:
        raise wrong
    lists = [value] if all(isinstance(item, Real) for item in value) else list(value)
    found: List[List[float]] = []
    for numbers in lists:
        if not isinstance(numbers, (list, tuple)) or any(
            isinstance(number, bool) or not isinstance(number, Real) for number in numbers
        ):
            raise wrong
        found.append([float(number) for number in numbers])
    return found

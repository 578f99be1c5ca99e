"""Every mistake that the vendor's product was probed with: one sentence and -1 here, never a traceback."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TESTDATA
from edited_models import replace_operator
from rknn_models import CONFIG, built, configured, loaded

import qloupe
from qloupe.rknn import RKNN


#: A model with Relu.
RELU = TESTDATA / "models" / "fmnist_resnet.onnx"


@pytest.fixture
def said(workspace, capfd):
    """What was said since the last time, in lines without the notes."""

    def lines():
        return [line for line in capfd.readouterr().err.splitlines() if line.startswith("E ")]

    return lines


def test_calls_out_of_order(said):
    rknn = RKNN()
    cases = [
        (lambda: rknn.load_onnx("model.onnx"), -1, "E load_onnx: no configuration, expected a call of config first"),
        (lambda: rknn.build(dataset="dataset.txt"), -1, "E build: no configuration, expected a call of config first"),
        (
            lambda: rknn.accuracy_analysis(["test.png"]),
            -1,
            "E accuracy_analysis: no built model, expected a call of build or hybrid_quantization_step2 first",
        ),
        (lambda: rknn.init_runtime(), -1, "E init_runtime: no built model, expected a call of build or hybrid_quantization_step2 first"),
        (lambda: rknn.inference([]), None, "E inference: no built model, expected a call of build or hybrid_quantization_step2 first"),
        (lambda: rknn.export_rknn("x.rknn"), -1, "E export_rknn: no built model, expected a call of build or hybrid_quantization_step2 first"),
        (lambda: rknn.eval_memory(), None, "E eval_memory: no built model, expected a call of build or hybrid_quantization_step2 first"),
        (lambda: rknn.eval_perf(), None, "E eval_perf: no built model, expected a call of build or hybrid_quantization_step2 first"),
    ]
    for call, answer, sentence in cases:
        assert call() == answer
        assert said() == [sentence]
    rknn = configured()
    assert rknn.build(dataset="dataset.txt") == -1
    assert said() == ["E build: no model, expected a call of load_onnx or another load function first"]


def test_configurations(said):
    targets = "rk3562, rk3566, rk3568, rk3576, rk3588, rv1103, rv1106, rv1126b"
    cases = [
        ({"target_platform": None}, f"target_platform is missing, expected one of {targets}"),
        ({"target_platform": "rk3599"}, "unknown target_platform 'rk3599', did you mean 'rk3588'?"),
        (
            {"quantized_algorithm": "percentil"},
            "unknown quantized_algorithm 'percentil', expected one of 'normal', 'mmse', 'kl_divergence'; also 'auto', 'percentile', 'octav', 'moving_average'",
        ),
        ({"quantized_algorithm": "gdq"}, "quantized_algorithm 'gdq' is for 4-bit weights and is not supported"),
        ({"quantized_method": "tensor"}, "unknown quantized_method 'tensor', expected 'channel' or 'layer'"),
        ({"quantized_method": "group32"}, "quantized_method 'group32' with quantized_dtype 'w8a8' is not supported, expected 'channel' or 'layer'"),
        ({"quantized_dtype": "int8"}, "unknown quantized_dtype 'int8', expected 'w8a8' ('asymmetric_quantized-8' in older releases)"),
        ({"quantized_dtype": "w4a16"}, "quantized_dtype 'w4a16' is not for rk3588, expected 'w8a8'"),
        ({"quantized_dtype": "w4a8"}, "quantized_dtype 'w4a8' is not supported, expected 'w8a8'"),
        ({"quantized_dtype": "asymmetric_quantized-16"}, "quantized_dtype 'asymmetric_quantized-16' is not supported, expected 'w8a8'"),
        ({"float_dtype": "bfloat16"}, "float_dtype: expected 'float16', got 'bfloat16'"),
        ({"optimization_level": 5}, "optimization_level: expected 0 to 3, got 5"),
        ({"mean_value": [[0]]}, "unknown parameter 'mean_value', did you mean 'mean_values'?"),
        ({"mean_values": "0"}, "mean_values: expected a list of numbers for each input, such as [[127.5, 127.5, 127.5]], got '0'"),
        ({"std_values": [["1"]]}, "std_values: expected a list of numbers for each input, such as [[127.5, 127.5, 127.5]], got [['1']]"),
        ({"quant_img_RGB2BGR": 1}, "quant_img_RGB2BGR: expected True, False or a list of them, one for each input, got 1"),
        ({"dynamic_input": [[[1, 3, 8, 8]]]}, "dynamic_input is not supported, expected None: several shapes in one model are not simulated; give one with load_onnx(inputs, input_size_list)"),
        ({"auto_hybrid_cos_thresh": "high"}, "auto_hybrid_cos_thresh: expected a number or None, got 'high'"),
        ({"disable_rules": ["x"]}, "'disable_rules' is a parameter of another release of the vendor's and is not supported, expected none"),
    ]
    for given, sentence in cases:
        rknn = RKNN()
        assert rknn.config(**{**CONFIG, **given}) == -1, given
        assert said()[0] == f"E config: {sentence}"
        assert rknn.load_onnx("model.onnx") == -1
        assert said() == [f"E load_onnx: config was refused before: {sentence}"]


def test_advice_follows_a_refused_dtype(said):
    assert RKNN().config(**CONFIG, quantized_dtype="asymmetric_quantized-16") == -1
    assert said()[1] == (
        "E help: use do_quantization=False (fp16), or raise single layers to float16 by hybrid quantization"
    )


def test_models(said, workspace):
    (workspace / "noise.onnx").write_bytes(b"garbage, no model")
    wide = {"mean_values": [[1.0, 2.0]], "std_values": [[1.0, 1.0]]}
    cases = [
        ({}, {"model": "nope.onnx"}, "nope.onnx"),
        ({}, {"model": "noise.onnx"}, "noise.onnx"),
        ({}, {"model": "model.onnx", "outputs": ["zzz"]}, 'value "zzz"'),
        ({}, {"model": "model.onnx", "inputs": ["zzz"], "input_size_list": [[1, 1, 28, 28]]}, 'value "zzz"'),
        ({}, {"model": "model.onnx", "inputs": "input"}, "inputs: expected a list of names, got 'input'"),
        ({}, {"model": "model.onnx", "input_size_list": [1, 1, 28, 28]}, "input_size_list: expected a shape for each input"),
        ({}, {"model": "model.onnx", "input_size_list": [[1, 1, 28, 28], [1]]}, "input_size_list has 2 shapes, expected 1"),
        ({}, {"model": "model.onnx", "input_size_list": [[1, 3, 28, 28]]}, "does not fit input"),
        ({}, {"model": "model.onnx", "input_initial_val": [0]}, "input_initial_val is not supported, expected None"),
        (wide, {"model": "model.onnx"}, "mean has 2 values, expected 1 (channels of input"),
        ({"std_values": [[0]]}, {"model": "model.onnx"}, "value 0 divides by zero"),
        ({"mean_values": [[0], [0]]}, {"model": "model.onnx"}, "mean_values has 2 lists, expected 1, one for each input: input"),
        ({}, {"model": str(TESTDATA / "models" / "ppocr_v2_cls.onnx")}, "expected sizes for its open dimensions"),
    ]
    for more, arguments, part in cases:
        assert configured(**more).load_onnx(**arguments) == -1, arguments
        lines = said()
        assert lines[0].startswith("E load_onnx: ") and part in lines[0], lines
        assert len(lines) <= 2


def test_operators_that_do_not_exist(said, workspace):
    """All of them, in one sentence."""
    model = bytearray((workspace / "model.onnx").read_bytes())
    (workspace / "odd.onnx").write_bytes(model.replace(b"\x04Relu", b"\x04Rolu").replace(b"\x04Clip", b"\x04Clap"))
    assert configured().load_onnx("odd.onnx") == -1
    lines = said()
    assert "unsupported operator" in lines[0] and ("Rolu" in lines[0] or "Clap" in lines[0])
    assert lines[1].startswith("E help: ")


def test_an_operator_of_another_domain(said, workspace):
    """It is named with its domain, before any work."""
    replace_operator(RELU, workspace / "custom.onnx", "Relu", "FooBar", "my.domain")
    assert configured().load_onnx("custom.onnx") == -1
    lines = said()
    assert "unsupported operator" in lines[0] and "my.domain" in lines[0] and "FooBar" in lines[0]


def test_an_operator_that_the_target_lacks_is_told(workspace, capfd):
    """The vendor builds it without a word."""
    replace_operator(RELU, workspace / "odd.onnx", "Relu", "Atan")
    rknn = configured()
    assert rknn.load_onnx("odd.onnx") == 0
    assert rknn.build(dataset="dataset.txt") == 0
    assert capfd.readouterr().err == "W build: rk3588 has no integers for Atan: 7 units compute in float16, between casts\n"


def test_datasets(said, workspace):
    np.save("nan.npy", np.full((1, 1, 28, 28), np.nan, np.float32))
    np.save("wrong.npy", np.zeros((1, 5, 7, 3), np.float32))
    files = {
        "empty.txt": "",
        "missing.txt": "calib/nothing.png\n",
        "kind.txt": "#\n",
        "two.txt": "test.png test.png\n",
        "nan.txt": "nan.npy\n",
        "wrong.txt": "wrong.npy\n",
        "recipe.txt": "recipe.toml\n",
        "noise.txt": "noise.png\n",
    }
    (workspace / "noise.png").write_bytes(b"no picture at all")
    for name, text in files.items():
        (workspace / name).write_text(text)
    cases = [
        (None, "do_quantization=True needs samples, expected dataset='dataset.txt', got None"),
        ("nope.txt", '"nope.txt" does not exist'),
        ("empty.txt", '"empty.txt" holds no samples, expected a line for each sample'),
        ("missing.txt", 'missing.txt:1: "calib/nothing.png" does not exist'),
        ("kind.txt", 'kind.txt:1: "#" does not exist'),
        ("recipe.txt", 'recipe.txt:1: "recipe.toml" is of unknown kind, expected .jpg, .png, .bmp, .npy, .npz or .safetensors'),
        ("two.txt", 'two.txt:1: wrong number of files, expected 1 ("input"), got 2'),
        ("nan.txt", 'nan.txt:1: "nan.npy", input "input": sample 0: 784 values are NaN or infinite, expected finite numbers'),
        (
            "wrong.txt",
            'wrong.txt:1: "wrong.npy", input "input": wrong shape, expected [1, 1, 28, 28] (or a leading axis of samples before it), got [1, 5, 7, 3]',
        ),
    ]
    for dataset, sentence in cases:
        assert loaded().build(do_quantization=True, dataset=dataset) == -1, dataset
        assert said() == [f"E build: {sentence}"], dataset
    assert loaded().build(do_quantization=True, dataset="noise.txt") == -1
    (line,) = said()
    assert line.startswith('E build: noise.txt:1: "noise.png"'), line


def test_paths_of_a_dataset_are_relative_to_it(said, workspace, monkeypatch):
    (workspace / "elsewhere").mkdir()
    plan = built()._state.quantized.plan_text
    monkeypatch.chdir(workspace / "elsewhere")
    rknn = configured()
    assert rknn.load_onnx("../model.onnx") == 0
    assert rknn.build(dataset="../dataset.txt") == 0
    assert rknn._state.quantized.plan_text == plan


def test_a_model_that_is_quantized_already(said):
    rknn = configured()
    assert rknn.load_onnx(str(TESTDATA / "quantized" / "ort_qdq_u8s8_channel.onnx")) == 0
    assert rknn.build(do_quantization=True, dataset="dataset.txt") == -1
    assert "the model is quantized already" in said()[0]
    assert rknn.build(do_quantization=False) == 0
    assert rknn.accuracy_analysis(["test.png"], output_dir=None) == 0, "no board is needed"
    golden = qloupe.load("model.onnx", recipe="recipe.toml").samples("test.png")[0]["input"]
    fed = rknn._state.quantized.model.samples("test.png")[0]
    assert np.allclose(next(iter(fed.values())), golden), "mean and std are kept"


def test_images_of_another_size_are_stretched(said, workspace):
    from_file = qloupe.load("model.onnx").samples("test.png")[0]["input"]
    assert from_file.shape == (1, 1, 28, 28)
    (workspace / "wide.txt").write_text("wide.bmp\n")
    # A 4x2 grey picture: header, 256 levels, two rows.
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    size = 54 + 1024 + 8
    header = b"BM" + size.to_bytes(4, "little") + bytes(4) + (54 + 1024).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + (4).to_bytes(4, "little") + (2).to_bytes(4, "little")
    info += (1).to_bytes(2, "little") + (8).to_bytes(2, "little") + bytes(24)
    (workspace / "wide.bmp").write_bytes(header + info + palette + bytes([0, 80, 160, 240] * 2))
    rknn = loaded()
    assert rknn.build(do_quantization=True, dataset="wide.txt") == 0
    assert rknn.accuracy_analysis(["wide.bmp"], output_dir=None) == 0
    assert said() == []


def test_runs(said):
    rknn = built()
    image = np.zeros((1, 28, 28, 1), np.uint8)
    assert rknn.inference(inputs=[image]) is None
    assert said() == ["E inference: the runtime is not ready, expected a call of init_runtime first"]
    assert rknn.init_runtime() == 0
    dtypes = "uint8, int8, uint16, int16, int32, int64, float16, float32, bool"
    cases = [
        ({"inputs": [np.zeros((1, 100, 100, 1), np.uint8)]}, "input 'input': wrong shape, expected [1, 28, 28, 1] as data_format 'nhwc' says, got [1, 100, 100, 1]"),
        ({"inputs": [image.astype(np.float64)]}, f"input 'input': wrong dtype, expected one of {dtypes}, got float64"),
        ({"inputs": [image], "data_format": "chwn"}, "unknown data_format 'chwn', expected one of nhwc, nchw, undefined"),
        ({"inputs": [image], "data_format": ["nhwc", "nchw"]}, "data_format has 2 entries, expected 1, one for each input"),
        ({"inputs": [image, image]}, "2 inputs, expected 1, one for each of input"),
        ({"inputs": ["test.png"]}, "inputs: expected a list of numpy arrays, got str"),
        ({"inputs": [image], "inputs_pass_through": [1]}, "inputs_pass_through is for the device, expected None: the simulator quantizes inputs itself"),
    ]
    for arguments, sentence in cases:
        assert rknn.inference(**arguments) is None
        assert said()[0] == f"E inference: {sentence}"
    (integers,), (levels,) = (rknn.inference([image.astype(dtype) + 7]) for dtype in (np.int64, np.uint8))
    assert np.array_equal(integers, levels)
    assert rknn.inference([np.zeros((1, 1, 28, 28), np.float32)]) is None
    assert said()[1] == "E help: inference(.., data_format='nchw') takes this array"


def test_analyses(said, workspace, capfd):
    rknn = built()
    np.save("wrong.npy", np.zeros((1, 5, 7, 3), np.float32))
    cases = [
        ("test.png", "inputs: expected a list of paths, one for each input, got 'test.png'"),
        ([], "inputs: expected a list of paths, one for each input, got []"),
        (["nope.png"], '"nope.png" does not exist'),
        (["wrong.npy"], '"wrong.npy", input "input": wrong shape, expected [1, 1, 28, 28] (or a leading axis of samples before it), got [1, 5, 7, 3]'),
    ]
    for inputs, sentence in cases:
        assert rknn.accuracy_analysis(inputs) == -1
        assert said() == [f"E accuracy_analysis: {sentence}"]
    assert rknn.accuracy_analysis(["test.png"], target="rk3588", device_id="515e9b401c060c0b") == -1
    captured = capfd.readouterr()
    assert "simulator_error" in captured.out and (workspace / "snapshot" / "error_analysis.txt").is_file()
    assert captured.err.splitlines()[-1] == (
        "E accuracy_analysis: the simulator's part is done; no device is known (rk3588, 515e9b401c060c0b), expected target=None for the simulator"
    )


def test_devices_and_compiled_models(said):
    rknn = built()
    assert rknn.init_runtime(target="rk3588") == -1
    assert said() == ["E init_runtime: no device is known (rk3588), expected target=None for the simulator"]
    assert rknn.load_rknn("model.rknn") == -1
    assert said()[0] == "E load_rknn: model.rknn: a compiled .rknn model runs on the device only, expected the ONNX model it was made from"
    assert rknn.list_devices() == ([], [])


def test_hybrid_files(said, workspace):
    assert loaded().hybrid_quantization_step1(dataset="nope.txt") == -1
    assert said() == ['E hybrid_quantization_step1: "nope.txt" does not exist']
    assert loaded().hybrid_quantization_step1(dataset="dataset.txt") == 0
    (workspace / "pickle.data").write_bytes(b"\x80\x04N.")
    cfg = (workspace / "model.quantization.cfg").read_text()

    def edited(name, layer):
        text = cfg.replace("custom_quantize_layers: {}", f"custom_quantize_layers:\n    {layer}")
        (workspace / name).write_text(text)
        return name

    cases = [
        (("nope.model", "model.data", "model.quantization.cfg"), "model_input 'nope.model' does not exist, expected the file of hybrid_quantization_step1"),
        (("model.model", "nope.data", "model.quantization.cfg"), "data_input 'nope.data' cannot be read: No such file or directory"),
        (("model.model", "pickle.data", "model.quantization.cfg"), "data_input 'pickle.data' is none of qloupe's, expected the file of hybrid_quantization_step1"),
        (("model.model", "model.data", edited("edited.cfg", "functional_1/Add_l: float16")), "edited.cfg: custom_quantize_layers: 'functional_1/Add_l' is no value of the model, did you mean 'functional_1/Add_1:0'?"),
        (("model.model", "model.data", edited("other.cfg", "functional_1/Add_1:0: float8")), "other.cfg: custom_quantize_layers: 'functional_1/Add_1:0': expected float16 or int8, got 'float8'"),
    ]
    for arguments, sentence in cases:
        assert configured().hybrid_quantization_step2(*arguments) == -1, arguments
        assert said()[0] == f"E hybrid_quantization_step2: {sentence}"
    assert loaded().hybrid_quantization_step1(dataset="dataset.txt", custom_hybrid=[["input"]]) == -1
    assert said() == ["E hybrid_quantization_step1: custom_hybrid: expected pairs of an input and an output tensor, got ['input']"]


def test_what_only_the_vendor_does(said):
    rknn = built()
    for call in (
        lambda: rknn.load_caffe("a.prototxt"),
        lambda: rknn.load_darknet("a.cfg", "a.weights"),
        lambda: rknn.codegen("out"),
        lambda: rknn.export_encrypted_rknn_model("a.rknn"),
        lambda: rknn.reg_custom_op(object()),
        lambda: rknn.optimize_onnx("model.onnx"),
    ):
        assert call() == -1
        lines = said()
        assert ", expected " in lines[0] and len(lines) <= 2


def test_converters_that_are_missing(said, monkeypatch):
    import sys

    for name in ("torch", "tensorflow", "tf2onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    rknn = configured()
    cases = [
        (lambda: rknn.load_pytorch("a.pt", [[1, 3, 8, 8]]), "load_pytorch needs the package torch, expected it to be installed", "pip install torch"),
        (lambda: rknn.load_tflite("a.tflite"), "load_tflite needs the package tensorflow, expected it to be installed", "pip install tensorflow"),
        (lambda: rknn.load_tensorflow("a.pb", ["x"], [[1, 8]], ["y"]), "load_tensorflow needs the package tensorflow, expected it to be installed", "pip install tensorflow"),
    ]
    for call, sentence, help in cases:
        assert call() == -1
        lines = said()
        assert sentence in lines[0] and lines[1] == f"E help: {help}"

"""Models of other formats, through the real converters: each test runs where the converter is installed."""

from __future__ import annotations

import numpy as np
import pytest
from rknn_models import configured

#: How far a converted model may be from the original: both compute in float32.
TOLERANCE = 1e-4


@pytest.fixture
def image():
    """A picture, height, width, channels."""
    return np.random.default_rng(0).random((1, 32, 32, 3), np.float32)


def answers_of(rknn, image):
    """The outputs of the float model for an array in its own layout."""
    model = rknn._state.model
    return list(model.infer({model.inputs[0].name: image}).values())


def no_normalization():
    return configured(mean_values=None, std_values=None)


@pytest.fixture
def keras(monkeypatch):
    """A small network of Keras: convolutions, a depthwise one, Relu6, a pool, softmax."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tensorflow = pytest.importorskip("tensorflow", reason="load_tflite and load_tensorflow need tensorflow")
    pytest.importorskip("tf2onnx", reason="load_tflite and load_tensorflow need tf2onnx")
    layers = tensorflow.keras.layers
    tensorflow.random.set_seed(0)
    image = tensorflow.keras.Input((32, 32, 3), batch_size=1, name="image")
    value = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    value = layers.ReLU(max_value=6.0)(layers.DepthwiseConv2D(3, padding="same")(value))
    value = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1)(value))
    return tensorflow, tensorflow.keras.Model(image, layers.Dense(10, activation="softmax")(value))


def test_a_tflite_file(keras, image, tmp_path):
    tensorflow, network = keras
    path = tmp_path / "small.tflite"
    path.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(network).convert())
    rknn = no_normalization()
    assert rknn.load_tflite(str(path)) == 0
    (output,) = answers_of(rknn, image)
    assert np.abs(output - network(image).numpy()).max() < TOLERANCE
    assert rknn.build(do_quantization=False) == 0 and rknn.init_runtime() == 0
    (half,) = rknn.inference(inputs=[image])
    assert np.abs(half - output).max() < 1e-2


def test_a_quantized_tflite_file(keras, image, tmp_path):
    tensorflow, network = keras
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for _ in range(2))
    path = tmp_path / "small.tflite"
    path.write_bytes(converter.convert())
    rknn = no_normalization()
    assert rknn.load_tflite(str(path)) == 0
    assert rknn._state.model.is_quantized
    assert rknn.build(do_quantization=False) == 0, "it keeps its own parameters"
    assert any(value.precision == "int8" for value in rknn._state.quantized.values)


def test_a_frozen_graph(keras, image, tmp_path):
    tensorflow, network = keras
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tensorflow.TensorSpec((1, 32, 32, 3), tensorflow.float32, name="image")
    frozen = convert_variables_to_constants_v2(tensorflow.function(lambda image: network(image)).get_concrete_function(spec))
    tensorflow.io.write_graph(frozen.graph.as_graph_def(), str(tmp_path), "small.pb", as_text=False)
    rknn = no_normalization()
    assert rknn.load_tensorflow(str(tmp_path / "small.pb"), ["image"], [[1, 32, 32, 3]], ["Identity"]) == 0
    (output,) = answers_of(rknn, image)
    assert np.abs(output - network(image).numpy()).max() < TOLERANCE


def test_files_that_tf2onnx_cannot_convert(keras, tmp_path, capfd):
    (tmp_path / "noise.tflite").write_bytes(b"no model at all, but long enough to look at")
    assert no_normalization().load_tflite(str(tmp_path / "noise.tflite")) == -1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("E ")]
    assert "tf2onnx cannot convert it" in said[0]
    assert f"E help: python -m tf2onnx.convert --tflite {tmp_path / 'noise.tflite'} --opset 17 --output MODEL.onnx" in said[1]
    (tmp_path / "noise.pb").write_bytes(b"\xff\xff")
    assert no_normalization().load_tensorflow(str(tmp_path / "noise.pb"), ["x"], [[1, 8]], ["y"]) == -1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("E ")]
    assert f"--graphdef {tmp_path / 'noise.pb'} --inputs x:0 --outputs y:0 --opset 17" in said[1]


@pytest.fixture
def torch():
    pytest.importorskip("onnx", reason="load_pytorch needs onnx")
    return pytest.importorskip("torch", reason="load_pytorch needs torch")


@pytest.mark.parametrize("kind", ["trace", "script"])
def test_a_torchscript_file(torch, kind, image, tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1),
        torch.nn.BatchNorm2d(8),
        torch.nn.SiLU(),
        torch.nn.Conv2d(8, 16, 3, padding=1, groups=8),
        torch.nn.ReLU6(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    ).eval()
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    module = torch.jit.trace(network, pixels) if kind == "trace" else torch.jit.script(network)
    torch.jit.save(module, str(tmp_path / "small.pt"))
    rknn = no_normalization()
    assert rknn.load_pytorch(str(tmp_path / "small.pt"), [[1, 3, 32, 32]]) == 0
    (output,) = answers_of(rknn, pixels.numpy())
    assert np.abs(output - network(pixels).detach().numpy()).max() < TOLERANCE


def test_what_is_no_torchscript(torch, tmp_path, capfd):
    torch.save(torch.nn.Linear(2, 2), str(tmp_path / "pickled.pt"))
    assert no_normalization().load_pytorch(str(tmp_path / "pickled.pt"), [[1, 2]]) == -1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("E ")]
    assert "is no TorchScript file, expected what torch.jit.save writes" in said[0]
    assert said[1] == "E help: torch.jit.save(torch.jit.trace(model.eval(), example), 'MODEL.pt') writes one"

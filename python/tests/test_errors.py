"""Every kind of error: its class, its text, its data."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TESTDATA

import qloupe
from qloupe import _optional, errors

CALIB = TESTDATA / "fmnist" / "calib"
FMNIST = TESTDATA / "models" / "fmnist_mbv2.onnx"


def test_unknown_choices_name_the_nearest(model):
    with pytest.raises(errors.UnknownChoiceError) as raised:
        model.build(CALIB, target="rk3589")
    error = raised.value
    assert (error.what, error.name, error.nearest, error.kind) == ("target", "rk3589", "rk3588", "unknown_choice")
    assert "rv1106" in error.choices and isinstance(error, ValueError)
    with pytest.raises(errors.UnknownChoiceError, match='unknown algorithm "mean_squared"'):
        model.build(CALIB, target="rk3588", algorithm="mean_squared")


def test_options_that_do_not_fit(model):
    cases = [
        (lambda: model.build(CALIB), "a target is missing, expected target=.. or precision='fp16'"),
        (lambda: model.build(CALIB, precision="int8"), "precision: expected 'fp16', or a target for integers, got 'int8'"),
        (lambda: model.build(target="rk3588"), "calibration samples are missing for target rk3588, expected a dataset"),
        (lambda: model.build(CALIB, target="rk3588", optimization_level=4), "optimization_level: expected 0 to 3, got 4"),
        (lambda: model.samples([]), "samples: expected at least one file, got none"),
        (
            lambda: model.evaluate(TESTDATA / "fmnist" / "test" / "labels.csv", precisions=["int8"]),
            "precision int8 needs a plan, expected quantized=Model.build(..), got none",
        ),
    ]
    for call, text in cases:
        with pytest.raises(errors.OptionsError) as raised:
            call()
        assert str(raised.value) == text


def test_models_that_cannot_be_read(tmp_path):
    with pytest.raises(errors.ModelError, match="nothing.onnx"):
        qloupe.load(tmp_path / "nothing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"not a model at all")
    with pytest.raises(errors.ModelError, match="noise.onnx"):
        qloupe.load(tmp_path / "noise.onnx")
    with pytest.raises(errors.ModelError, match="value \"nothing\""):
        qloupe.load(FMNIST, outputs=["nothing"])


def test_a_quantized_model_is_refused_with_advice():
    stored = qloupe.load(TESTDATA / "quantized" / "ort_qdq_u8s8_channel.onnx")
    assert stored.is_quantized
    with pytest.raises(errors.QuantizedModelError) as raised:
        stored.build(np.zeros((1, 1, 28, 28), np.float32), target="rk3588", algorithm="min_max")
    assert "load_quantized()" in raised.value.help


def test_runs_that_fail_say_where(model):
    with pytest.raises(errors.SampleError, match='"given array", input "input": wrong shape'):
        model.infer(np.zeros((1, 3, 28, 28), np.float32))
    with pytest.raises(errors.SampleError, match="wrong dtype, expected float32, got float64"):
        model.infer(np.zeros((1, 1, 28, 28)))
    with pytest.raises(TypeError, match='input "input": wrong dtype, expected an array of numbers, got complex128'):
        model.infer(np.zeros((1, 1, 28, 28), complex))


def test_samples_name_their_place(model, tmp_path):
    with pytest.raises(errors.SampleError, match="does not exist"):
        model.samples(tmp_path / "nothing")
    (tmp_path / "dataset.txt").write_text("a.png\n")
    with pytest.raises(errors.SampleError, match="dataset.txt:1"):
        model.samples(tmp_path / "dataset.txt")
    with pytest.raises(errors.SampleError, match='"imput"'):
        model.samples({"imput": np.zeros((1, 1, 28, 28), np.float32)})


def test_recipes_name_the_key(tmp_path):
    with pytest.raises(errors.RecipeError) as raised:
        qloupe.load(FMNIST, recipe={"input": qloupe.InputRecipe(std=0.0)})
    assert raised.value.key == "input.input.std"
    with pytest.raises(errors.FileError, match="cannot be read"):
        qloupe.load(FMNIST, recipe=tmp_path / "nothing.toml")


def test_plans_and_files(model, quantized, tmp_path):
    (tmp_path / "plan.toml").write_text("schema = 'x'\n")
    with pytest.raises(errors.PlanError) as raised:
        model.read_plan(tmp_path / "plan.toml")
    assert raised.value.file == str(tmp_path / "plan.toml") and "Model.build()" in raised.value.help
    with pytest.raises(errors.FileError) as raised:
        model.read_plan(tmp_path / "nothing.toml")
    assert "nothing.toml: cannot be read" in str(raised.value)
    with pytest.raises(errors.FileError):
        quantized.save(tmp_path / "no" / "folder" / "x.onnx")
    with pytest.raises(errors.OptionsError, match='value "inputs" does not exist in the plan, did you mean "input"'):
        quantized.with_precisions({"inputs": "fp16"})
    with pytest.raises(errors.UnknownChoiceError, match='unknown format "rknm"'):
        quantized.export("rknm", tmp_path / "x")


def test_values_that_are_not_finite(tmp_path):
    array = np.full((1, 1, 28, 28), 3e38, np.float32)
    model = qloupe.load(FMNIST)
    with pytest.raises(errors.NotFiniteError) as raised:
        model.build(array, target="rk3588", algorithm="min_max", optimization_level=0)
    assert raised.value.count > 0 and raised.value.sample == "sample 0" and raised.value.value


def test_every_error_is_an_error_and_has_help_as_a_note(model):
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.Error)
    with pytest.raises(errors.Error) as raised:
        qloupe.load(TESTDATA / "quantized" / "ort_qdq_u8s8_channel.onnx").build(
            np.zeros((1, 1, 28, 28), np.float32), target="rk3588", algorithm="min_max"
        )
    notes = getattr(raised.value, "__notes__", [f"help: {raised.value.help}"])
    assert notes == [f"help: {raised.value.help}"]


def test_a_missing_package_is_one_sentence():
    with pytest.raises(errors.MissingPackageError) as raised:
        _optional.require("no_such_module", "no-such-package", "a test")
    assert raised.value.package == "no-such-package" and raised.value.help == "pip install no-such-package"
    assert str(raised.value).startswith("a test needs the package no-such-package, expected it to be installed, got: ")

"""Models: opened, looked into, run."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TESTDATA

import qloupe
from qloupe import InputRecipe, Recipe


def test_inputs_and_outputs_are_those_of_the_file(model):
    (each,) = model.inputs
    assert (each.name, each.dtype, each.shape[1:], each.layout, each.channels) == ("input", "float32", (1, 28, 28), "nchw", "gray")
    assert model.outputs == ["Identity:0"]
    assert "input float32" in repr(model)


def test_inspection_has_data_and_text(model):
    inspection = model.inspect("rk3588")
    assert inspection.unsupported == {}
    assert {line["op_type"] for line in inspection.operators} >= {"Conv", "Add"}
    assert inspection.data["placement"]["target"] == "rk3588"
    assert "Conv" in str(inspection) and inspection._repr_html_().startswith("<pre>")


def test_samples_are_read_as_the_model_takes_them(model):
    samples = model.samples(TESTDATA / "fmnist" / "calib")
    assert len(samples) == 20
    first = samples[0]["input"]
    assert first.shape == (1, 1, 28, 28) and first.dtype == np.float32
    # Level 0 is (0 - mean) / std.
    assert first.min() == pytest.approx(-72.93 / 90.015, rel=1e-6)
    assert samples.file(0).endswith(".png")
    assert len(samples.first(3)) == 3
    assert np.array_equal(samples[-1]["input"], list(samples)[19]["input"])
    with pytest.raises(IndexError, match="sample 20: there are 20 samples"):
        samples[20]


def test_arrays_are_samples_too(model):
    files = model.samples(TESTDATA / "fmnist" / "test")
    arrays = np.concatenate([sample["input"] for sample in files])
    assert arrays.shape == (20, 1, 28, 28)
    from_files = model.infer(files)["Identity:0"]
    for given in (arrays, {"input": arrays}, model.samples({"input": arrays})):
        outputs = model.infer(given)["Identity:0"]
        assert outputs.shape == (20, 10)
        assert np.array_equal(outputs, from_files)


def test_strided_arrays_give_the_same(model):
    array = model.samples(TESTDATA / "fmnist" / "test")[0]["input"]
    mirrored = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    assert not mirrored.flags.c_contiguous
    assert np.array_equal(model.infer(mirrored)["Identity:0"], model.infer(array)["Identity:0"])


def test_outputs_own_their_memory_and_inputs_are_left_alone(model):
    array = model.samples(TESTDATA / "fmnist" / "test")[0]["input"]
    array.flags.writeable = False
    before = array.copy()
    output = model.infer(array)["Identity:0"]
    assert output.flags.writeable and output.flags.c_contiguous
    output[:] = 0
    assert np.array_equal(array, before)
    assert model.infer(array)["Identity:0"].any()


def test_a_recipe_is_an_object_a_file_or_a_mapping(model, tmp_path):
    recipe = Recipe({"input": InputRecipe(mean=72.93, std=[90.015], resize="letterbox", pad=0, layout="nchw")})
    text = '[input."input"]\nmean = 72.93\nstd = [90.015]\nlayout = "nchw"\nresize = "letterbox"\npad = 0\n'
    assert recipe.to_toml() == text
    recipe.save(tmp_path / "recipe.toml")
    picture = TESTDATA / "fmnist" / "test" / "t10k_0005.png"
    expected = model.infer(picture)["Identity:0"]
    for given in (recipe, tmp_path / "recipe.toml", recipe.inputs):
        assert np.array_equal(qloupe.load(model.path, recipe=given).infer(picture)["Identity:0"], expected)


def test_a_part_of_a_model_can_be_opened(model, quantized):
    inner = next(value.name for value in quantized.values if value.unit.startswith("Conv"))
    part = qloupe.load(model.path, outputs=[inner])
    assert part.outputs == [inner]


def test_a_bench_tells_time_and_memory(model):
    timing = model.bench(n_runs=2, n_warmup=1, profile=True)
    assert timing.median_ms > 0 and timing.peak_bytes > 28 * 28 * 4
    assert len(timing.data["nodes"]) > 10


def test_the_lists_name_what_there_is():
    assert "min_max" in [each.id for each in qloupe.algorithms()]
    assert "rk3588" in [each.id for each in qloupe.targets()]
    assert ("sqnr_db", "dB") in [(each.id, each.unit) for each in qloupe.metrics()]
    assert {"csv", "json", "md", "table", "txt"} <= set(qloupe.report_formats())
    formats = {each.id: each for each in qloupe.export_formats()}
    assert formats["rknn"].needs_cfg and formats["rknn-script"].needs_dataset
    assert qloupe.__version__[0].isdigit()

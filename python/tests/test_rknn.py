"""The vendor's API: what is honoured, what is said of the rest, what files are left."""

from __future__ import annotations

import inspect
import shutil

import numpy as np
import pytest
from conftest import MEAN, STD, TESTDATA
from edited_models import put_weights_outside
from rknn_models import built, configured, loaded

import qloupe
from qloupe.rknn import RKNN
from qloupe.rknn import config as rknn_config


def image(name="test.png"):
    """A picture as cv2 gives it."""
    return qloupe.load("model.onnx").samples(name)[0]["input"][0].transpose(1, 2, 0).astype(np.uint8)


def test_inference_takes_what_cv2_gives(workspace):
    rknn = built()
    assert rknn.init_runtime() == 0
    pixels = image()
    (expected,) = rknn.inference(inputs=[pixels[None]])
    assert expected.dtype == np.float32 and expected.shape == (1, 10)
    nchw = pixels.transpose(2, 0, 1)[None]
    for inputs, data_format in (([pixels], None), (pixels[None], "nhwc"), ([nchw], "nchw"), ([nchw.astype(np.float32)], ["nchw"])):
        (output,) = rknn.inference(inputs=inputs, data_format=data_format)
        assert np.array_equal(output, expected)
    recipe = {"input": qloupe.InputRecipe(mean=MEAN, std=STD)}
    reference = qloupe.load("model.onnx", recipe=recipe).build(
        "dataset.txt", target="rk3588", algorithm="min_max", optimization_level=1
    )
    same = reference.infer("test.png")["Identity:0"]
    assert np.abs(same - expected).max() < 0.5, "the picture and its array are the same"


def test_integer_weights_beside_float16_values(workspace, capfd):
    options = {"quantized_dtype": "w4a16", "quantized_method": "group32"}
    parsed = rknn_config.parse({"target_platform": "RK3576", **options}, RKNN()._log)
    assert (parsed.target, parsed.method) == ("rk3576-w4a16", "block")
    channels = rknn_config.parse({"target_platform": "rk3562", "quantized_dtype": "w8a16"}, RKNN()._log)
    assert (channels.target, channels.method) == ("rk3562-w8a16", "channel")
    rknn = loaded(target_platform="rk3576", **options)
    assert rknn.build(dataset="dataset.txt") == 0
    assert rknn.init_runtime() == 0
    (four_bits,) = rknn.inference(inputs=[image()[None]])
    reference = built()
    assert reference.init_runtime() == 0
    (eight_bits,) = reference.inference(inputs=[image()[None]])
    assert 0.1 < np.abs(four_bits - eight_bits).max() < 5, "the same network with coarser weights"
    for refused in (lambda: rknn.export_rknn("x.rknn"), lambda: rknn.hybrid_quantization_step1(dataset="dataset.txt")):
        assert refused() == -1
        said = capfd.readouterr().err
        assert "rk3576-w4a16 has integer weights only, expected a configuration with integer values" in said


def test_the_defaults_are_the_vendors():
    parsed = rknn_config.parse({"target_platform": "RK3588"}, RKNN()._log)
    assert (parsed.algorithm, parsed.method, parsed.optimization_level, parsed.target) == ("min_max", "channel", 3, "rk3588")
    assert (parsed.cos_thresh, parsed.euc_thresh, parsed.rgb2bgr) == (0.98, None, [False])
    signatures = {
        "load_onnx": "(self, model, inputs=None, input_size_list=None, input_initial_val=None, outputs=None)",
        "build": "(self, do_quantization=True, dataset=None, rknn_batch_size=None, auto_hybrid=False)",
        "hybrid_quantization_step1": "(self, dataset='dataset.txt', rknn_batch_size=None, proposal=False, proposal_dataset_size=1, custom_hybrid=None)",
        "hybrid_quantization_step2": "(self, model_input, data_input, model_quantization_cfg)",
        "inference": "(self, inputs, data_format=None, inputs_pass_through=None, get_frame_id=False)",
        "init_runtime": "(self, target=None, device_id=None, perf_debug=False, eval_mem=False, async_mode=False, core_mask=0, fallback_prior_device='cpu')",
        "eval_perf": "(self, is_print=True, fix_freq=True)",
        "eval_memory": "(self, is_print=True)",
    }
    for name, expected in signatures.items():
        signature = inspect.signature(getattr(RKNN, name))
        plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        assert str(inspect.Signature(plain)) == expected


@pytest.mark.parametrize("dtype", ["w8a8", "asymmetric_quantized-8", "asymmetric_quantized-u8"])
def test_old_names_of_dtypes_are_known(workspace, dtype):
    assert configured(quantized_dtype=dtype).load_onnx("model.onnx") == 0


def test_arguments_that_are_not_honoured_say_so_once(workspace, capfd):
    rknn = loaded(compress_weight=True, single_core_mode=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        f"W config: {name} is for the vendor's compiler: it changes nothing here and is handed over by export_rknn"
        for name in ("compress_weight", "single_core_mode")
    ]
    for _ in range(2):
        assert rknn.build(do_quantization=True, dataset="dataset.txt", rknn_batch_size=4) == 0
        assert rknn.init_runtime(core_mask=RKNN.NPU_CORE_0_1_2, async_mode=True) == 0
        assert rknn.inference([image()], get_frame_id=True) is not None
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W ")]
    assert lines == [
        "W build: rknn_batch_size is for the vendor's compiler: one sample is simulated at a time",
        "W init_runtime: async_mode is for the device and changes nothing in the simulator",
        "W init_runtime: core_mask is for the device and changes nothing in the simulator",
        "W inference: get_frame_id is for the device and is not honoured",
        "W inference: input 'input' has 3 dimensions, it is taken for a batch of 1",
    ]


def test_bgr_swaps_pictures_not_arrays(workspace):
    """mean and std are in the order of the model's channels."""
    config = {"mean_values": [[10, 20, 30]], "std_values": [[1, 2, 4]], "target_platform": "rk3588"}
    model = str(TESTDATA / "models" / "ppocr_v2_cls.onnx")
    picture = str(TESTDATA / "ocr_lines" / "line_001.png")
    samples = []
    for bgr in (False, True):
        rknn = RKNN()
        assert rknn.config(quant_img_RGB2BGR=bgr, **config) == 0
        assert rknn.load_onnx(model, inputs=["x"], input_size_list=[[1, 3, 48, 192]]) == 0
        samples.append(rknn._state.model.samples(picture)[0]["x"][0])
    levels = [sample * np.array([1, 2, 4], np.float32)[:, None, None] + np.array([10, 20, 30])[:, None, None] for sample in samples]
    assert np.allclose(levels[0], levels[1][::-1], atol=1e-3)


def test_npy_samples_get_mean_and_std(workspace):
    pixels = image().transpose(2, 0, 1)[None]
    np.save("sample.npy", pixels)
    (workspace / "arrays.txt").write_text("sample.npy\n")
    (workspace / "pictures.txt").write_text("test.png\n")
    plans = []
    for dataset in ("arrays.txt", "pictures.txt"):
        rknn = loaded()
        assert rknn.build(dataset=dataset) == 0
        plans.append(rknn._state.quantized.plan_text)
    assert plans[0] == plans[1]


def test_no_rewrite_that_the_converter_lacks(workspace):
    rknn = built()
    assert rknn._state.quantized.plan_text.count("[[passes]]") == 0
    rknn = built(quantized_algorithm="auto")
    assert "[[rescales]]" not in rknn._state.quantized.plan_text and "race = " in rknn._state.quantized.plan_text


def worst_cosine(quantized, dataset="dataset.txt"):
    report = quantized.analyze(quantized.model.samples(dataset).first(16), views=("entire",), costs=False)
    return min(output.metric("cosine") for output in report.outputs)


def raised_by_a_proposal(quantized):
    return [value.name for value in quantized.values if (value.reason or "").startswith("hybrid: ")]


def test_auto_hybrid_brings_every_output_to_the_threshold(workspace, capfd):
    before = worst_cosine(built()._state.quantized)
    threshold = 1.0 - 0.5 * (1.0 - before)
    rknn = RKNN(verbose=True)
    assert rknn.config(mean_values=[[MEAN]], std_values=[[STD]], target_platform="rk3588", auto_hybrid_cos_thresh=threshold) == 0
    assert rknn.load_onnx("model.onnx") == 0
    assert rknn.build(dataset="dataset.txt", auto_hybrid=True) == 0
    quantized = rknn._state.quantized
    names = raised_by_a_proposal(quantized)
    assert 0 < len(names) < len(quantized.values) - 1, "not everything"
    assert worst_cosine(quantized) >= threshold > before
    lines = capfd.readouterr().err.splitlines()
    for name in names:
        assert any(line.startswith(f"I build: to raise fp16 '{name}' (") and "of the multiply-accumulates" in line for line in lines), name
    assert any(line.startswith(f"I build: cosine of the worst output {before:.5f} before (") for line in lines)
    rknn = loaded(auto_hybrid_cos_thresh=0.5)
    assert rknn.build(dataset="dataset.txt", auto_hybrid=True) == 0
    assert not raised_by_a_proposal(rknn._state.quantized), "the goal is reached without"
    assert f"W build: every output reaches a cosine of 0.5 as it is (the worst {before:.5f}): no layer is raised" in capfd.readouterr().err


def test_a_threshold_out_of_reach_is_said(workspace, capfd):
    rknn = loaded(auto_hybrid_cos_thresh=1.1)
    assert rknn.build(dataset="dataset.txt", auto_hybrid=True) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W ")]
    assert line.startswith("W build: no set of layers reaches a cosine of 1.1 at every output: with all of them in float16 it is ")
    assert line.endswith(" (Identity:0)")


def test_layers_beyond_the_distance_are_raised_as_the_vendor_does(workspace):
    plain = built()._state.quantized
    report = plain.analyze(plain.model.samples("dataset.txt").first(16), views=("local",), costs=False)
    units = {value.name for value in plain.values if value.unit != "Input" and value.precision == "int8"}
    distances = {layer.name: layer.metric("euclidean", "local") for layer in report.layers if layer.name in units and layer.views}
    threshold = sorted(distances.values())[-3]
    rknn = loaded(auto_hybrid_cos_thresh=None, auto_hybrid_euc_thresh=threshold)
    assert rknn.build(dataset="dataset.txt", auto_hybrid=True) == 0
    raised = {value.name for value in rknn._state.quantized.values if value.reason == "set by hand"}
    assert raised == {name for name, distance in distances.items() if distance > threshold} and len(raised) == 2


def test_a_proposal_says_why_in_the_cfg(workspace, capfd):
    before = worst_cosine(built()._state.quantized)
    rknn = loaded(auto_hybrid_cos_thresh=1.0 - 0.5 * (1.0 - before))
    assert rknn.hybrid_quantization_step1(dataset="dataset.txt", proposal=True, proposal_dataset_size=16) == 0
    section = (workspace / "model.quantization.cfg").read_text().split("quantize_parameters:")[0]
    lines = [line for line in section.splitlines()[1:] if line]
    assert lines and all(": float16    # gain " in line and "of the multiply-accumulates" in line for line in lines)
    assert configured().hybrid_quantization_step2("model.model", "model.data", "model.quantization.cfg") == 0
    for size in (0, True, "all"):
        assert loaded().hybrid_quantization_step1(dataset="dataset.txt", proposal=True, proposal_dataset_size=size) == -1
        assert f"proposal_dataset_size: expected a number of samples, at least 1, got {size!r}" in capfd.readouterr().err


def test_the_files_of_step_1_need_no_other(workspace):
    """Weights in a file beside the model come along."""
    (workspace / "there").mkdir()
    put_weights_outside(workspace / "model.onnx", workspace / "there" / "outside.onnx", "outside.weights")
    assert (workspace / "there" / "outside.onnx").stat().st_size < (workspace / "model.onnx").stat().st_size / 2
    rknn = configured()
    assert rknn.load_onnx("there/outside.onnx") == 0
    assert rknn.hybrid_quantization_step1(dataset="dataset.txt") == 0
    shutil.rmtree(workspace / "there")
    rknn = RKNN()
    assert rknn.hybrid_quantization_step2("outside.model", "outside.data", "outside.quantization.cfg") == 0
    assert rknn.init_runtime() == 0
    (output,) = rknn.inference([image()[None]])
    reference = built()
    assert reference.init_runtime() == 0
    assert np.array_equal(output, reference.inference([image()[None]])[0])


def test_fp16_with_samples_keeps_what_overflows(workspace, capfd):
    rknn = loaded()
    assert rknn.build(do_quantization=False, auto_hybrid=True) == -1
    assert "auto_hybrid=True needs samples" in capfd.readouterr().err
    assert rknn.build(do_quantization=False, dataset="dataset.txt", auto_hybrid=True) == 0
    assert rknn._state.quantized.target == "fp16"


def test_several_images_are_several_samples(workspace):
    rknn = built()
    assert rknn.accuracy_analysis(["test.png"], output_dir="one") == 0
    assert rknn.accuracy_analysis(["test.png", "test/t10k_0014.png"], output_dir="two") == 0
    one, two = ((workspace / name / "error_analysis.txt").read_text() for name in ("one", "two"))
    assert one != two
    assert (workspace / "two" / "golden" / "npy").is_dir()


def test_text_dumps_only_on_request(workspace):
    rknn = built()
    assert rknn.accuracy_analysis(["test.png"], output_dir="plain") == 0
    assert not list((workspace / "plain" / "golden").glob("*.txt"))
    assert rknn.accuracy_analysis(["test.png"], output_dir="text", text_dumps=True) == 0
    file = workspace / "text" / "golden" / "input.txt"
    numbers = np.loadtxt(file)
    assert np.allclose(numbers, np.load(workspace / "text" / "golden" / "npy" / "input.npy").ravel(), atol=1e-6)


def test_ranges_of_an_edited_cfg_count(workspace):
    assert loaded().hybrid_quantization_step1(dataset="dataset.txt") == 0
    text = (workspace / "model.quantization.cfg").read_text()
    at = text.index("        max:\n        -   ", text.index("    input:")) + len("        max:\n        -   ")
    end = text.index("\n", at)
    (workspace / "model.quantization.cfg").write_text(text[:at] + "100.0" + text[end:])
    rknn = configured()
    assert rknn.hybrid_quantization_step2("model.model", "model.data", "model.quantization.cfg") == 0
    value = rknn._state.quantized.values[0]
    assert value.range[1] == 100.0 and value.scale[0] == pytest.approx((100.0 - value.range[0]) / 255)


def test_step_2_needs_no_second_configuration(workspace):
    assert loaded().hybrid_quantization_step1(dataset="dataset.txt") == 0
    rknn = RKNN()
    assert rknn.hybrid_quantization_step2("model.model", "model.data", "model.quantization.cfg") == 0
    assert rknn._state.quantized.plan_text == built()._state.quantized.plan_text
    assert rknn.init_runtime() == 0 and rknn.inference([image()[None]]) is not None


def test_custom_hybrid_raises_a_part(workspace):
    rknn = built()
    names = [value.name for value in rknn._state.quantized.values if value.shared_with is None]
    first, last = names[2], names[5]
    assert loaded().hybrid_quantization_step1(dataset="dataset.txt", custom_hybrid=[[first, last]]) == 0
    section = (workspace / "model.quantization.cfg").read_text().split("quantize_parameters:")[0]
    assert f"    {last}: float16\n" in section and f"    {names[-1]}: float16\n" not in section


def test_figures_of_the_cpu_are_labelled(workspace, capsys):
    rknn = built()
    text = rknn.eval_perf()
    assert text.startswith("time on this CPU, not on the NPU") and text in capsys.readouterr().out
    assert rknn.eval_perf(is_print=False, fix_freq=False).startswith("time on this CPU")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "W eval_perf: fix_freq is for the device and changes nothing here\n"
    figures = rknn.eval_memory()
    assert figures["total_memory"] == figures["weight_memory"] + figures["internal_memory"] + figures["other_memory"]
    assert 0 < figures["weight_memory"] < (workspace / "model.onnx").stat().st_size
    assert capsys.readouterr().out.startswith("estimate for the target, not measured on a device")


def test_export_without_the_vendor_leaves_what_it_takes(workspace, capfd, monkeypatch):
    from qloupe.rknn import vendor

    monkeypatch.setattr(vendor, "is_installed", lambda: False)
    rknn = built()
    assert rknn.export_rknn("out.rknn") == -1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("E ")]
    assert lines == [
        "E export_rknn: out.rknn is not written: only the vendor's package rknn-toolkit2 writes .rknn files, expected it to be installed",
        "E help: written instead: out.onnx, out.plan.toml, out.rknn-script/convert.py",
    ]
    written = qloupe.load_quantized("out.onnx")
    assert written.values[0].precision == "int8"
    compile((workspace / "out.rknn-script" / "convert.py").read_text(), "convert.py", "exec")


def test_the_log_goes_to_a_file_too(workspace):
    rknn = RKNN(verbose=True, verbose_file="log.txt")
    assert rknn.config(target_platform="nothing") == -1
    assert (workspace / "log.txt").read_text().startswith("E config: unknown target_platform 'nothing'")


def test_release_forgets_the_model(workspace, capfd):
    rknn = built()
    assert "simulator" in rknn.get_sdk_version()
    assert rknn.release() is None
    assert rknn.build(dataset="dataset.txt") == -1
    assert "no configuration" in capfd.readouterr().err

"""Writes what ONNX Runtime computes for the models of testdata/models, to test qloupe's float execution against.

Usage: python tools/make_reference_outputs.py        (from the root; needs onnxruntime, onnx and numpy)

For each model one testdata/reference/<model>.npz (stored, not compressed): `input/<name>` and `output/<name>`, and for
the models in INTERMEDIATE also `value/<name>` for every float value of the graph, from the first sample only.
Inputs are seeded standard normal arrays. ONNX Runtime runs with graph optimization disabled, on one thread.
testdata/reference/provenance.json names the tool versions and the sha256 of every file.
"""
import hashlib, json, platform
from pathlib import Path

import numpy as np, onnx, onnxruntime

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "testdata" / "models"
OUT = ROOT / "testdata" / "reference"
SEED = 20240229
# model -> shape of each input; a number is the input itself.
FMNIST = {"input": (8, 1, 28, 28)}
INPUTS = {
    "fmnist_lstm": FMNIST, "fmnist_mbv2": FMNIST, "fmnist_resnet": FMNIST, "fmnist_vit": FMNIST,
    "ppocr_v2_cls": {"x": (2, 3, 48, 192)},
    "silero_vad_16k_op15": {"input": (2, 576), "state": (2, 2, 128), "sr": 16000},
}
INTERMEDIATE = ("fmnist_resnet",)
MAX_BYTES = 300_000


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_all_values(model):
    inferred = onnx.shape_inference.infer_shapes(model)
    present = {value.name for value in model.graph.output}
    floats = [v for v in inferred.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.extend(v for v in floats if v.name not in present)
    return result


def run(model, feeds):
    built = session(model)
    names = [output.name for output in built.get_outputs()]
    return dict(zip(names, built.run(names, feeds)))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, inputs in INPUTS.items():
        path = MODELS / f"{name}.onnx"
        model = onnx.load(path)
        feeds = {}
        for key, shape in inputs.items():
            noise = np.random.default_rng(SEED).standard_normal(shape if isinstance(shape, tuple) else ())
            feeds[key] = noise.astype(np.float32) if isinstance(shape, tuple) else np.array(shape, np.int64)
        arrays = {f"input/{k}": v for k, v in feeds.items()}
        arrays |= {f"output/{k}": v for k, v in run(model, feeds).items()}
        if name in INTERMEDIATE:
            values = run(with_all_values(model), {k: v[:1] for k, v in feeds.items()})
            values = {f"value/{k}": v for k, v in values.items()}
            total = sum(v.nbytes for v in values.values())
            if total > MAX_BYTES:
                raise SystemExit(f"{name}: intermediate values are too large, expected {MAX_BYTES} bytes, got {total}")
            arrays |= values
        out = OUT / f"{name}.npz"
        np.savez(out, **arrays)
        rows.append({
            "model": f"testdata/models/{path.name}", "model_sha256": sha256(path),
            "reference": f"testdata/reference/{out.name}", "reference_sha256": sha256(out),
            "seed": SEED, "inputs": {k: list(v.shape) for k, v in feeds.items()}, "n_arrays": len(arrays),
        })
        print(f"{out.name}: {len(arrays)} arrays, {out.stat().st_size} bytes")
    provenance = {
        "script": "tools/make_reference_outputs.py",
        "script_sha256": sha256(Path(__file__)),
        "onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__,
        "python": platform.python_version(), "machine": platform.machine(),
        "settings": {"graph_optimization_level": "ORT_DISABLE_ALL", "intra_op_num_threads": 1,
                     "inter_op_num_threads": 1, "provider": "CPUExecutionProvider"},
        "files": rows,
    }
    (OUT / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()

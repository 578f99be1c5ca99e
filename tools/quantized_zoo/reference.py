"""Writes what ONNX Runtime computes for the models of testdata/quantized, and prints their accuracy.

Usage: python tools/quantized_zoo/reference.py
Needs: onnxruntime==1.32.0 onnx==1.23.2 numpy

testdata/quantized/images.npz: `input`, the first 16 test images of Fashion-MNIST, and their `labels`.
testdata/quantized/reference.npz: `<model>/plain` is the output for those images with graph optimization disabled, and
`<model>/optimized` that with all optimization, where its bits differ. Images run one at a
time: the scale of a dynamic quantization depends on the whole batch.
testdata/quantized/provenance.json: versions, the sha256 of every file, and top-1 on the first 2000 test images of the
model and of its float original. All runs are on one thread.
"""
import hashlib, json, platform

import numpy as np, onnx, onnxruntime
from onnxruntime import GraphOptimizationLevel as Level

from fashion_mnist import FLOAT, ROOT, ZOO, images, labels

N_IMAGES, N_ACCURACY = 16, 2000
# Model -> its float original in testdata/models; None where training with fake quantization left none.
ORIGINALS = {
    "brevitas_w4a4": None,
    "brevitas_w8a8": None,
    "inc_qdq": "fmnist_mbv2",
    "inc_qoperator": "fmnist_resnet",
    "modelopt_int4_awq": "fmnist_vit",
    "modelopt_int8": "fmnist_resnet",
    "modelopt_int8_fp16": "fmnist_mbv2",
    "nncf_cpu_performance": "fmnist_resnet",
    "nncf_mixed": "fmnist_mbv2",
    "ort_blocks_matmulnbits": "fmnist_vit",
    "ort_blocks_qdq": "fmnist_vit",
    "ort_dynamic_conv": "fmnist_resnet",
    "ort_dynamic_lstm": "fmnist_lstm",
    "ort_dynamic_vit": "fmnist_vit",
    "ort_optimized_u8s8": "fmnist_resnet",
    "ort_qdq_s8s8_tensor": "fmnist_resnet",
    "ort_qdq_u16s4_contrib": "fmnist_mbv2",
    "ort_qdq_u16s8": "fmnist_resnet",
    "ort_qdq_u8s8_channel": "fmnist_mbv2",
    "ort_qoperator_s8s8_channel": "fmnist_mbv2",
    "ort_qoperator_u8u8": "fmnist_resnet",
    "quark_a8w8": "fmnist_mbv2",
    "quark_xint8": "fmnist_resnet",
    "tf_qat": "fmnist_tf",
    "torch_pt2e": None,
    "torch_qat_s8": "fmnist_torch_qat_s8",
    "torch_qat_u7": "fmnist_torch_qat_u7",
}


def run(path, level, x):
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = level
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    (graph_input,) = session.get_inputs()
    return np.concatenate([session.run(None, {graph_input.name: x[i : i + 1]})[0] for i in range(len(x))])


def top1(path, x, classes):
    return float(np.mean(run(path, Level.ORT_ENABLE_ALL, x).argmax(axis=1) == classes))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main():
    x, classes = images("t10k", N_ACCURACY), labels("t10k", N_ACCURACY)
    np.savez(ZOO / "images.npz", input=x[:N_IMAGES], labels=classes[:N_IMAGES])
    paths = sorted(ZOO.glob("*.onnx"))
    originals = sorted({ORIGINALS[path.stem] for path in paths if ORIGINALS[path.stem]})
    float_top1 = {source: top1(FLOAT / f"{source}.onnx", x, classes) for source in originals}
    arrays, rows = {}, []
    for path in paths:
        plain = run(path, Level.ORT_DISABLE_ALL, x[:N_IMAGES])
        optimized = run(path, Level.ORT_ENABLE_ALL, x[:N_IMAGES])
        arrays[f"{path.stem}/plain"] = plain
        if plain.tobytes() != optimized.tobytes():
            arrays[f"{path.stem}/optimized"] = optimized
        rows.append({
            "model": path.name, "sha256": sha256(path), "float": ORIGINALS[path.stem],
            "top1": top1(path, x, classes), "float_top1": float_top1.get(ORIGINALS[path.stem]),
            "optimized_max_difference": float(np.abs(plain - optimized).max()),
        })
        row = rows[-1]
        print(f"{path.stem:28} {path.stat().st_size:7} bytes   top-1 float {row['float_top1']}, quantized {row['top1']}"
              f"   optimized differs by {row['optimized_max_difference']:.3g}")
    np.savez(ZOO / "reference.npz", **arrays)
    provenance = {
        "script": "tools/quantized_zoo/reference.py",
        "onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__,
        "python": platform.python_version(), "machine": platform.machine(),
        "images": sha256(ZOO / "images.npz"), "reference": sha256(ZOO / "reference.npz"),
        "files": rows,
    }
    (ZOO / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()

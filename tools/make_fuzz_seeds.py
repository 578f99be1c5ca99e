"""Writes the seeds of the fuzz targets that are made, not found: small valid files, and broken ones.

Usage: python make_fuzz_seeds.py [fuzz/corpus]        (needs the PyPI packages `onnx` and `numpy`)

A model of the ONNX node tests becomes one seed for each operator: the smallest, its inputs turned into initializers,
so that reading the model also computes the operator. Names of seeds that are made start with `made-`; the others were
found by the fuzzer and stay.
"""
import io, os, sys, warnings
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node

warnings.filterwarnings("ignore")
MAX_SIZE = 1500


def varint(value):
    out = b""
    while True:
        low, value = value & 0x7F, value >> 7
        if value == 0:
            return out + bytes([low])
        out += bytes([low | 0x80])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def tensor(value):
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))


def folded(case):
    """The model of a node test with its inputs as initializers."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    inputs = list(case.data_sets)[0][0]
    for info, value in zip(list(graph.input), inputs):
        if value is None or isinstance(value, (list, dict)):
            return None
        stored = tensor(value)
        stored.name = info.name
        graph.initializer.append(stored)
        graph.input.remove(info)
    return model.SerializeToString()


def node_models():
    best = {}
    for case in node.collect_testcases(None):
        if case.model is None or not case.data_sets:
            continue
        try:
            data = folded(case)
        except (TypeError, ValueError):
            continue
        op = case.model.graph.node[0].op_type if len(case.model.graph.node) == 1 else "function"
        if data is not None and len(data) <= MAX_SIZE and len(data) < len(best.get(op, data + b" ")):
            best[op] = data
    return {f"op-{op}": data for op, data in best.items()}


def model(nodes, inputs=(), outputs=("y",), initializers=(), opset=17):
    types = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    graph = helper.make_graph(nodes, "g", types, [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def hand_models():
    n = helper.make_node
    big = np.array([2**40, 2**20], np.int64)
    f32 = np.float32
    network = model(
        [n("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4), n("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
         n("Relu", ["n"], ["r"]), n("Sigmoid", ["r"], ["g"]), n("Mul", ["r", "g"], ["u"]),
         n("Shape", ["u"], ["shape"]), n("Gather", ["shape", "zero"], ["batch"]),
         n("Concat", ["batch", "rest"], ["target"], axis=0), n("Reshape", ["u", "target"], ["f"]), n("Gemm", ["f", "k"], ["y"])],
        [("x", ["N", 2, 4, 4])],
        initializers=[("w", np.ones((3, 2, 3, 3), f32)), ("b", np.zeros(3, f32)), ("s", np.ones(3, f32)), ("m", np.zeros(3, f32)),
                      ("v", np.ones(3, f32)), ("zero", np.array([0], np.int64)), ("rest", np.array([48], np.int64)),
                      ("k", np.ones((48, 2), f32))], opset=11)
    squares = [n("Shape", ["x"], ["s0"])] + [n("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(64)]
    squares.append(n("Expand", ["x", "s64"], ["y"]))
    then = helper.make_graph([n("Identity", ["x"], ["t"])], "then", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)])
    doubled = model([n("Identity", ["x"], ["y"])], initializers=[("x", np.ones(2, f32))])
    doubled.graph.initializer.append(doubled.graph.initializer[0])
    models = {
        "network": network,
        "squares": model(squares, [("x", ["n", "m"])]),
        "if": model([n("If", ["c"], ["y"], then_branch=then, else_branch=then)], initializers=[("c", np.array(True)), ("x", f32(1))]),
        "constant-of-shape": model([n("ConstantOfShape", ["s"], ["y"])], initializers=[("s", big)]),
        "expand": model([n("Expand", ["x", "s"], ["y"])], initializers=[("x", np.ones((1, 1), f32)), ("s", big)]),
        "tile": model([n("Tile", ["x", "s"], ["y"])], initializers=[("x", np.ones((2, 2), f32)), ("s", big)]),
        "range": model([n("Range", ["a", "b", "c"], ["y"])],
                       initializers=[("a", np.int64(0)), ("b", np.int64(2**62)), ("c", np.int64(1))]),
        "pad": model([n("Pad", ["x", "s"], ["y"])], initializers=[("x", np.ones(2, f32)), ("s", big)]),
        "resize": model([n("Resize", ["x", "", "s"], ["y"])],
                        initializers=[("x", np.ones((1, 1, 2, 2), f32)), ("s", np.array([1, 1, 1e6, 1e7], f32))]),
        "one-hot": model([n("OneHot", ["i", "d", "v"], ["y"])],
                         initializers=[("i", np.array([0], np.int64)), ("d", np.int64(2**50)), ("v", np.array([0, 1], f32))]),
        "outer-product": model([n("Expand", ["x", "s"], ["a"]), n("Transpose", ["a"], ["b"]), n("MatMul", ["a", "b"], ["y"])],
                               initializers=[("x", np.ones((1, 1), f32)), ("s", np.array([2**16, 1], np.int64))]),
        "duplicate-initializer": doubled,
        "names": model([n("Relu", ["a/b:0"], ["\u00e9 \u4f60"], name="n:1 /x"), n("Identity", ["\u00e9 \u4f60"], ["y"])], [("a/b:0", [2])]),
        "cycle": model([n("Relu", ["b"], ["a"]), n("Relu", ["a"], ["b"]), n("Add", ["a", "b"], ["y"])]),
    }
    return {name: m.SerializeToString() for name, m in models.items()}


def broken_models():
    nested = b""
    for _ in range(200):
        nested = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, nested) + b"\xa0\x01\x05"))
    overflow = field(5, b"\x08" + varint(2**62) + b"\x08\x04\x10\x01" + field(8, b"w"))
    return {
        "nested": b"\x08\x08" + field(7, nested),
        "overflow": b"\x08\x08" + field(7, overflow),
        "long-varint": b"\x08" + b"\xff" * 11,
        "huge-length": b"\x08\x08\x3a" + varint(2**62),
        "not-text": b"\x08\x08" + field(7, field(1, field(1, b"\xff\xfe") + field(4, b"Relu"))),
    }


def plans():
    head = 'schema = "qloupe-plan/1"\ntarget = "{}"\nalgorithm = "min_max"\nmethod = "channel"\noptimization_level = {}\nn_samples = 2\n'
    values = "\n".join(
        ['[values]', '"x:0" = { precision = "int8", scale = 0.1, zero_point = 3, min = -1.0, max = 2.0, unit = "" }',
         '"r" = { precision = "int8", scale = 0.02, zero_point = -128, unit = "Conv+Relu" }', '"p" = { shared_with = "r" }',
         '"f" = { shared_with = "p" }', '"y" = { precision = "fp16", reason = "by hand", scale = 0.1, zero_point = 0, dtype = "int8" }'])
    weights = '\n[weights]\nw1 = { dtype = "int8", axis = 0, scale = [0.1, 1e-7, 3.0] }\nw2 = { dtype = "int8", scale = [0.01], outcome = "x" }\n'
    return {
        "rk3588": head.format("rk3588", 3) + values + weights,
        "onnxruntime": head.format("onnxruntime", 0) + values.replace("int8", "uint8").replace("-128", "0") + weights,
        "fp16": head.format("fp16", 3) + '[values]\n"x:0" = { precision = "float" }\n',
        "circle": head.format("rk3588", 3) + '[values]\n"p" = { shared_with = "f" }\n"f" = { shared_with = "p" }\n',
        "limits": head.format("rk3588", 3) + '[values]\n"r" = { precision = "int8", scale = 1e-45, zero_point = -2147483648 }\n'
                  '"y" = { precision = "int8", scale = inf, zero_point = 0 }\n[weights]\nw1 = { dtype = "int4", axis = 18446744073709551615, scale = [] }\n',
    }


def lists():
    recipe = '[input.x]\nscale = 0.5\nmean = [1, 2, 3]\nstd = [4.0, 5, 6]\nchannel_order = "bgr"\nresize = "{}"\n'
    return {
        "dataset": 'da.png\n\n"b c.png"\t\na.npy\n', "two-inputs": "da.png a.npy\n'b c.png' \"a.npy\"\r\n",
        "open-quote": 'da.png\n"b', "labels": 'lpath,label\na.png, 3\n"b c.png","say ""hi"""\n', "not-two": "la\nb,c,d\n",
        "letterbox": "r" + recipe.format("letterbox") + 'pad = 7\nlayout = "nchw"\ninterpolation = "bicubic"\n',
        "center-crop": "r" + recipe.format("center-crop") + 'short_side = 9\ndtype = "uint8"\nnormalize_arrays = true\n',
        "keep-height": "r" + recipe.format("keep-height") + "size = [3, 7]\n",
        "limits": 'r[input.x]\nscale = 1e38\nmean = [inf]\nstd = 1e-45\nsize = [16384, 16384]\n',
    }


def arrays():
    def saved(save, *args, **kwargs):
        out = io.BytesIO()
        save(out, *args, **kwargs)
        return out.getvalue()

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    npz = dict(x=x, y=np.array([True, False]), z=np.float64(3))
    header = b'{"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"__metadata__":{"a":"b"}}'
    return {
        "npy": saved(np.save, x), "fortran": saved(np.save, np.asfortranarray(x.astype(">i2"))), "scalar": saved(np.save, np.int8(3)),
        "npz": saved(np.savez, **npz), "deflated": saved(np.savez_compressed, **npz, zeros=np.zeros(9000, np.uint8)),
        "safetensors": len(header).to_bytes(8, "little") + header + x.tobytes(),
        "huge-header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "huge-shape": saved(np.save, x).replace(b"(2, 3)", b"(2, 9" + b"9" * 15 + b")"),
        "huge-safetensors": (2**63).to_bytes(8, "little") + header,
    }


def main(corpus):
    seeds = {"onnx": {**node_models(), **hand_models(), **broken_models()}, "plan": plans(), "dataset": lists(), "array": arrays()}
    for target, files in seeds.items():
        folder = os.path.join(corpus, target)
        os.makedirs(folder, exist_ok=True)
        for name, data in files.items():
            with open(os.path.join(folder, f"made-{name}"), "wb") as f:
                f.write(data.encode() if isinstance(data, str) else data)
        print(f"{target}: {len(files)} seeds, {sum(map(len, files.values()))} bytes")


main(sys.argv[1] if len(sys.argv) > 1 else "fuzz/corpus")

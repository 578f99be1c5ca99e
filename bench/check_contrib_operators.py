#!/usr/bin/env python3
"""Checks operators against ONNX Runtime on random one-node models: how many elements differ, and by how much.

Usage: check_contrib_operators.py QLOUPE [WORD..]        runs the operators whose names contain one of the words

Needs the PyPI packages numpy, onnx and onnxruntime. Every function of OPERATORS yields the cases of one operator over
shapes, dtypes and attributes; the cases of an operator become one model whose activations are inputs and whose
parameters are initializers. ONNX Runtime runs it without optimization. Ends with 1 where a bound is exceeded.
"""
import os, subprocess, sys, tempfile
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ort.set_default_logger_severity(3)
MICROSOFT = "com.microsoft"


class Fed:
    """An input that is fed when the model runs; other arrays are initializers."""

    def __init__(self, array):
        self.array = np.asarray(array)


class Case:
    def __init__(self, op, inputs, outputs, domain=MICROSOFT, **attributes):
        self.op, self.inputs, self.outputs, self.domain, self.attributes = op, inputs, outputs, domain, attributes


def model_of(cases, opset):
    nodes, inputs, outputs, initializers, feed = [], [], [], [], {}
    for i, case in enumerate(cases):
        names = []
        for j, value in enumerate(case.inputs):
            name = f"i{i}_{j}"
            if value is None:
                name = ""
            elif isinstance(value, Fed):
                feed[name] = value.array
                dtype = helper.np_dtype_to_tensor_dtype(value.array.dtype)
                inputs.append(helper.make_tensor_value_info(name, dtype, value.array.shape))
            else:
                initializers.append(numpy_helper.from_array(np.asarray(value), name))
            names.append(name)
        out = [f"o{i}_{j}" for j in range(len(case.outputs))]
        nodes.append(helper.make_node(case.op, names, out, f"case{i}", domain=case.domain, **case.attributes))
        for name, dtype in zip(out, case.outputs):
            outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None))
    graph = helper.make_graph(nodes, "cases", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feed


def reference_of(model, feed):
    """The outputs of ONNX Runtime without optimization, by name; with more threads DynamicQuantizeLSTM differs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {info.name: array for info, array in zip(session.get_outputs(), session.run(None, feed))}


def ours_of(qloupe, model, feed):
    """The outputs of qloupe, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        onnx.save(model, path("model.onnx"))
        np.savez(path("in.npz"), **{name: array[None] for name, array in feed.items()})
        subprocess.run([qloupe, "infer", path("model.onnx"), "--input", path("in.npz"), "--out", path("out.npz"),
                        "--quiet"], check=True, stdout=subprocess.DEVNULL)
        return dict(np.load(path("out.npz")))


def run_both(qloupe, cases, opset):
    model, feed = model_of(cases, opset)
    ours = ours_of(qloupe, model, feed)
    return [(name, reference, ours[name]) for name, reference in reference_of(model, feed).items()]


def check(qloupe, name, cases, bound, opset):
    """`bound`: the largest allowed difference, in steps of an integer or relative to the largest element of a float."""
    n, differing, worst, where = 0, 0, 0.0, ""
    for output, reference, ours in run_both(qloupe, cases, opset):
        case = cases[int(output[1:].split("_")[0])]
        if reference.size != ours.size:
            print(f"  {name} {output}: {reference.shape} against {ours.shape}")
            worst = np.inf
            continue
        ours = ours.reshape(reference.shape)
        wide = [np.asarray(a, np.float64) for a in (reference, ours)]
        scale = max(np.abs(wide[0]).max(initial=0), 1e-6) if reference.dtype.kind == "f" else 1
        steps = np.abs(wide[0] - wide[1]).max(initial=0) / scale
        n += reference.size
        differing += int((reference != ours).sum())
        if steps > worst:
            shapes = [None if i is None else np.shape(getattr(i, "array", i)) for i in case.inputs]
            worst, where = steps, f"{output} {reference.dtype} {shapes} {case.attributes}"
    good = worst <= bound
    print(f"{name:28} {len(cases):4} cases {n:8} elements {differing:6} differ, by {worst:.3g} at most"
          + ("" if good else f"   TOO MUCH: {where}"))
    return good


random = np.random.default_rng(7)


def quantized(dtype, shape):
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max + 1, shape, dtype=dtype)


def scale(low=0.003, high=0.3):
    return np.float32(np.exp(random.uniform(np.log(low), np.log(high))))


def params(dtype):
    return [scale(), quantized(dtype, ())]


EIGHT = (np.uint8, np.int8)


def binary(op):
    shapes = [((2, 3, 5, 7), (2, 3, 5, 7)), ((257,), (257,)), ((4, 33), (33,)), ((4, 33), ()), ((), (6,)),
              ((1, 8, 9, 9), (1, 8, 1, 1)), ((3, 1), (1, 50)), ((2, 0), (2, 0))]
    for dtype in EIGHT:
        for a, b in shapes:
            for _ in range(3):
                yield Case(op, [Fed(quantized(dtype, a)), *params(dtype), Fed(quantized(dtype, b)), *params(dtype),
                                scale(0.01, 1), quantized(dtype, ())], [dtype])


def table(op, **attributes):
    for dtype in EIGHT:
        for shape in [(256,), (2, 3, 4, 5), (1000,)]:
            for _ in range(8):
                out = [np.float32(1 / 256), np.iinfo(dtype).min + np.zeros((), dtype)] if op == "QLinearSigmoid" else params(dtype)
                x = np.arange(256).astype(dtype) if shape == (256,) else quantized(dtype, shape)
                yield Case(op, [Fed(x), scale(0.003, 0.1), quantized(dtype, ()), *out], [dtype], **attributes)


def qlinear_leaky_relu():
    yield from table("QLinearLeakyRelu")
    yield from table("QLinearLeakyRelu", alpha=0.3)


def qlinear_softmax():
    for dtype in EIGHT:
        for shape, axis in [((3, 10), -1), ((2, 5, 4), 1), ((1, 1000), -1), ((2, 3, 4, 16), -1), ((4, 7), 0)]:
            for opset in (11, 13):
                for out in (np.float32(1 / 256), np.float32(1 / 200)):
                    zero = np.iinfo(dtype).min + np.zeros((), dtype)
                    yield Case("QLinearSoftmax", [Fed(quantized(dtype, shape)), scale(0.01, 0.2), quantized(dtype, ()), out, zero],
                               [dtype], axis=axis, opset=opset)


def qlinear_concat():
    for dtype in EIGHT:
        for shapes, axis in [([(2, 3, 4), (2, 5, 4)], 1), ([(7,), (1,), (30,)], 0), ([(1, 4, 5, 6), (1, 2, 5, 6)], -3)]:
            out = params(dtype)
            members = [[Fed(quantized(dtype, s)), *params(dtype)] for s in shapes]
            members[0][1:] = out
            yield Case("QLinearConcat", out + sum(members, []), [dtype], axis=axis)


def qlinear_where():
    for dtype in EIGHT:
        for c, x, y in [((4, 6), (4, 6), (4, 6)), ((5, 1), (1, 7), ()), ((1,), (3, 4), (3, 4))]:
            yield Case("QLinearWhere", [Fed(random.random(c) < 0.5), Fed(quantized(dtype, x)), *params(dtype),
                                        Fed(quantized(dtype, y)), *params(dtype), *params(dtype)], [dtype])


def average_pool():
    settings = [dict(kernel_shape=[3, 3]), dict(kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 1, 2]),
                dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), dict(kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
                dict(kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)]
    for dtype in EIGHT:
        for setting in settings:
            for last in (0, 1):
                for shape in [(2, 9, 8, 5), (1, 7, 7, 16)]:
                    yield Case("QLinearAveragePool", [Fed(quantized(dtype, shape)), *params(dtype), *params(dtype)], [dtype],
                               channels_last=last, **setting)
        for last in (0, 1):
            yield Case("QLinearAveragePool", [Fed(quantized(dtype, (2, 9, 12))), *params(dtype), *params(dtype)], [dtype],
                       channels_last=last, kernel_shape=[4], strides=[2])


def global_average_pool():
    for dtype in EIGHT:
        for shape in [(2, 8, 7, 7), (1, 5, 3, 4), (1, 33, 10), (1, 1, 60, 60)]:
            for last in (0, 1):
                yield Case("QLinearGlobalAveragePool", [Fed(quantized(dtype, shape)), *params(dtype), *params(dtype)], [dtype],
                           channels_last=last)


def nhwc_max_pool():
    for dtype in EIGHT:
        for setting in [dict(kernel_shape=[3, 3]), dict(kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
                        dict(kernel_shape=[2, 3], dilations=[2, 1], ceil_mode=1)]:
            yield Case("NhwcMaxPool", [Fed(quantized(dtype, (2, 9, 8, 5)))], [dtype], **setting)
        yield Case("NhwcMaxPool", [Fed(quantized(dtype, (2, 9, 5)))], [dtype], kernel_shape=[3])


WEIGHTS = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]


def conv(op, domain):
    geometries = [((1, 3, 9, 8), (4, 3, 3, 3), dict(pads=[1, 1, 1, 1])), ((2, 8, 7, 7), (16, 8, 1, 1), dict()),
                  ((1, 16, 10, 10), (16, 1, 3, 3), dict(group=16, strides=[2, 2], pads=[0, 1, 1, 0])),
                  ((1, 6, 8, 9), (4, 3, 2, 3), dict(group=2, dilations=[2, 1])), ((1, 4, 20), (5, 4, 3), dict(strides=[2])),
                  ((1, 2, 5, 6, 4), (3, 2, 2, 2, 2), dict()), ((1, 3, 8, 8), (2, 3, 3, 3), dict(auto_pad="SAME_LOWER", strides=[2, 2]))]
    for activation, weight in WEIGHTS:
        for x_shape, w_shape, attributes in geometries:
            for per_channel in (False, True):
                for last in (0, 1) if domain else (0,):
                    x, w, oc = quantized(activation, x_shape), quantized(weight, w_shape), w_shape[0]
                    zero = quantized(weight, ()) if weight == np.uint8 else np.zeros((), weight)
                    w_scale = scale()
                    if per_channel:
                        w_scale, zero = np.float32(random.uniform(0.01, 0.1, oc)), np.repeat(zero, oc)
                    if last:
                        x = np.moveaxis(x, 1, -1)
                    given = dict(attributes, channels_last=last) if domain else attributes
                    if op == "ConvInteger":
                        yield Case(op, [Fed(x), w, quantized(activation, ()), zero if not per_channel else zero[0]], [np.int32],
                                   domain, **given)
                        continue
                    x_scale = scale()
                    y_scale = np.float32(x_scale * np.mean(w_scale) * np.sqrt(np.prod(w_shape[1:])) * 60)
                    bias = random.integers(-9000, 9000, oc, dtype=np.int32)
                    yield Case(op, [Fed(x), x_scale, quantized(activation, ()), w, w_scale, zero, y_scale,
                                    quantized(activation, ()), bias], [activation], domain, **given)


def products():
    return [((7, 33), (33, 20)), ((2, 3, 5, 16), (16, 9)), ((3, 4, 8), (3, 8, 5)), ((1, 100), (100, 3)), ((2, 1, 4, 8), (3, 8, 5))]


def weight_zero(dtype, n=None):
    shape = () if n is None else (n,)
    return quantized(dtype, shape) if dtype == np.uint8 else np.zeros(shape, dtype)


def qlinear_mat_mul():
    for a, b in WEIGHTS:
        for a_shape, b_shape in products():
            for fed in (False, True):
                n = b_shape[-1] if len(b_shape) == 2 and not fed else None
                a_scale, b_scale = scale(), scale() if n is None else np.float32(random.uniform(0.01, 0.1, n))
                y_scale = np.float32(a_scale * np.mean(b_scale) * np.sqrt(a_shape[-1]) * 60)
                right = quantized(b, b_shape)
                yield Case("QLinearMatMul", [Fed(quantized(a, a_shape)), a_scale, quantized(a, ()), Fed(right) if fed else right,
                                             b_scale, weight_zero(b, n), y_scale, quantized(a, ())], [a], "")


def mat_mul_integer():
    for a, b in WEIGHTS:
        for a_shape, b_shape in products():
            for n in (None, b_shape[-1]) if len(b_shape) == 2 else (None,):
                yield Case("MatMulInteger", [Fed(quantized(a, a_shape)), quantized(b, b_shape), quantized(a, ()), weight_zero(b, n)],
                           [np.int32], "")


def mat_mul_integer_to_float():
    for a, b in WEIGHTS:
        for a_shape, b_shape in products():
            for bias in (None, np.float32(random.normal(size=b_shape[-1]))):
                n = b_shape[-1] if len(b_shape) == 2 else None
                b_scale = scale() if n is None else np.float32(random.uniform(0.01, 0.1, n))
                yield Case("MatMulIntegerToFloat", [Fed(quantized(a, a_shape)), quantized(b, b_shape), scale(), b_scale,
                                                    quantized(a, ()), weight_zero(b, n), bias], [np.float32])


def dynamic_quantize_mat_mul():
    for b in EIGHT:
        for a_shape, b_shape in products():
            for bias in (None, np.float32(random.normal(size=b_shape[-1]))):
                n = b_shape[-1] if len(b_shape) == 2 else None
                b_scale = scale() if n is None else np.float32(random.uniform(0.01, 0.1, n))
                x = np.float32(random.normal(size=a_shape) * 3)
                yield Case("DynamicQuantizeMatMul", [Fed(x), quantized(b, b_shape), b_scale, weight_zero(b, n), bias], [np.float32])


def q_gemm():
    for a, b in WEIGHTS:
        for transposed in (0, 1):
            for alpha in (1.0, 0.7):
                for c in (None, (20,), (7, 1), (7, 20), ()):
                    for real in (False, True):
                        left, right = quantized(a, (33, 7) if transposed else (7, 33)), quantized(b, (20, 33) if transposed else (33, 20))
                        a_scale, b_scale = scale(), np.float32(random.uniform(0.01, 0.1, 20))
                        bias = None if c is None else random.integers(-5000, 5000, c, dtype=np.int32)
                        inputs = [Fed(left), a_scale, quantized(a, ()), right, b_scale, weight_zero(b, 20), bias]
                        if not real:
                            inputs += [np.float32(a_scale * 0.05 * 400), quantized(a, ())]
                        yield Case("QGemm", inputs, [np.float32 if real else a], transA=transposed, transB=transposed, alpha=alpha)


def dynamic_quantize_linear():
    for shape in [(7,), (3, 40), (2, 3, 4, 5)]:
        for offset in (0.0, 5.0, -5.0, 0.3):
            x = np.float32(random.normal(size=shape) + offset)
            yield Case("DynamicQuantizeLinear", [Fed(x)], [np.uint8, np.float32, np.uint8], "")
    yield Case("DynamicQuantizeLinear", [Fed(np.zeros((3,), np.float32))], [np.uint8, np.float32, np.uint8], "")


def linear(domain, dtypes, blocks):
    def scales(shape, axis, block):
        if axis is None:
            return (), {}
        if block:
            return tuple(-(-d // block) if i == axis else d for i, d in enumerate(shape)), dict(axis=axis, block_size=block)
        return (shape[axis],), dict(axis=axis)

    for dtype in dtypes:
        for shape in [(600,), (3, 10, 7), (2, 4, 5, 6)]:
            for axis in (None, 0, len(shape) - 1):
                for block in (0, 3) if axis is not None and blocks else (0,):
                    s_shape, attributes = scales(shape, axis, block)
                    yield dtype, shape, np.float32(random.uniform(0.01, 0.3, s_shape)), quantized(dtype, s_shape), attributes


def quantize_linear(domain, dtypes, blocks=False):
    for dtype, shape, s, z, attributes in linear(domain, dtypes, blocks):
        x = np.float32(random.normal(size=shape) * 9)
        if not domain:
            yield Case("QuantizeLinear", [Fed(x.astype(np.float16)), s.astype(np.float16), z], [dtype], domain, **attributes)
        yield Case("QuantizeLinear", [Fed(x), s, z], [dtype], domain, **attributes)


def dequantize_linear(domain, dtypes, blocks=False):
    for dtype, shape, s, z, attributes in linear(domain, dtypes, blocks):
        if not domain:
            yield Case("DequantizeLinear", [Fed(quantized(dtype, shape)), s.astype(np.float16), z], [np.float16], domain, **attributes)
        yield Case("DequantizeLinear", [Fed(quantized(dtype, shape)), s, z], [np.float32], domain, **attributes)


def dynamic_quantize_lstm():
    for dtype in EIGHT:
        for direction, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            for per_column in (False, True):
                x, hidden = np.float32(random.normal(size=(6, 2, 10))), 8
                weights = [quantized(dtype, (n, k, 4 * hidden)) for k in (10, hidden)]
                shape = (n, 4 * hidden) if per_column else (n,)
                weight_params = [v for _ in weights for v in (np.float32(random.uniform(0.002, 0.01, shape)),
                                                              np.full(shape, 128 if dtype == np.uint8 else 0, dtype))]
                bias = np.float32(random.normal(size=(n, 8 * hidden)) * 0.1)
                states = [np.float32(random.normal(size=(n, 2, hidden)) * 0.3) for _ in range(2)]
                yield Case("DynamicQuantizeLSTM", [Fed(x), *weights, bias, None, *states, None, *weight_params],
                           [np.float32] * 3, direction=direction, hidden_size=hidden)


def q_embed_layer_normalization():
    for dtype in EIGHT:
        for segments in (False, True):
            hidden, ids = 24, np.int32(random.integers(0, 50, (2, 7)))
            tables = [quantized(dtype, s) for s in ((50, hidden), (9, hidden), (3, hidden), (hidden,), (hidden,))]
            inputs = [Fed(ids), Fed(np.int32(random.integers(0, 3, (2, 7)))), *tables, Fed(np.int32(random.random((2, 7)) < 0.7))]
            scales, zeros = [scale() for _ in tables], [quantized(dtype, ()) for _ in tables]
            if not segments:
                inputs[1], inputs[4], scales[2], zeros[2] = None, None, None, None
            yield Case("QEmbedLayerNormalization", inputs + scales + zeros, [np.float32, np.int32], epsilon=1e-5)


def q_attention():
    for weight in EIGHT:
        for per_column in (False, True):
            for masked in (None, "length", "raw"):
                for unidirectional in (0, 1):
                    batch, length, hidden, past = 2, 6, 16, 3 if unidirectional else 0
                    n = 3 * hidden if per_column else None
                    w_scale = np.float32(random.uniform(0.002, 0.01, n)) if n else np.float32(0.005)
                    mask = {None: None, "length": Fed(np.int32([length, 3])),
                            "raw": Fed(np.int32(random.random((batch, length + past)) < 0.8))}[masked if not past or masked == "raw" else None]
                    cache = np.float32(random.normal(size=(2, batch, 4, past, hidden // 4)))
                    inputs = [Fed(quantized(np.uint8, (batch, length, 24))), quantized(weight, (24, 3 * hidden)),
                              np.float32(random.normal(size=3 * hidden)), scale(0.01, 0.05), w_scale, mask,
                              quantized(np.uint8, ()), weight_zero(weight, n), Fed(cache) if past else None]
                    yield Case("QAttention", inputs, [np.float32] * (2 if past else 1), num_heads=4, unidirectional=unidirectional)


SIXTEEN = (np.uint8, np.int8, np.uint16, np.int16)

# Name, cases, bound (see `check`), opset.
OPERATORS = [
    ("ConvInteger", lambda: [c for c in conv("ConvInteger", "") if c.inputs[0].array.dtype == np.uint8], 0, 21),
    ("DequantizeLinear", lambda: dequantize_linear("", SIXTEEN, True), 0, 21),
    # The state is quantized at every step: where one rounds the other way, all that follows differs.
    ("DynamicQuantizeLSTM", dynamic_quantize_lstm, 0.01, 21),
    ("DynamicQuantizeLinear", dynamic_quantize_linear, 0, 21),
    ("DynamicQuantizeMatMul", dynamic_quantize_mat_mul, 0, 21),
    ("MatMulInteger", mat_mul_integer, 0, 21),
    ("MatMulIntegerToFloat", mat_mul_integer_to_float, 0, 21),
    ("NhwcMaxPool", nhwc_max_pool, 0, 21),
    ("QAttention", q_attention, 1e-6, 21),
    ("QEmbedLayerNormalization", q_embed_layer_normalization, 2e-6, 21),
    ("QGemm", q_gemm, 0, 21),
    ("QLinearAdd", lambda: binary("QLinearAdd"), 0, 21),
    ("QLinearAveragePool", average_pool, 0, 21),
    ("QLinearConcat", qlinear_concat, 0, 21),
    ("QLinearConv", lambda: conv("QLinearConv", ""), 0, 21),
    ("QLinearConv (microsoft)", lambda: conv("QLinearConv", MICROSOFT), 0, 21),
    ("QLinearGlobalAveragePool", global_average_pool, 0, 21),
    ("QLinearLeakyRelu", qlinear_leaky_relu, 0, 21),
    ("QLinearMatMul", qlinear_mat_mul, 0, 21),
    ("QLinearMul", lambda: binary("QLinearMul"), 0, 21),
    # Both take 1 / (1 + e^-x) from a polynomial of their own: an entry of a table at a tie may fall on either side.
    ("QLinearSigmoid", lambda: table("QLinearSigmoid"), 1, 21),
    ("QLinearSoftmax", qlinear_softmax, 0, 21),
    ("QLinearWhere", qlinear_where, 0, 21),
    ("QuantizeLinear", lambda: quantize_linear("", SIXTEEN, True), 0, 21),
    ("QuantizeLinear (microsoft)", lambda: quantize_linear(MICROSOFT, SIXTEEN), 0, 19),
    ("DequantizeLinear (microsoft)", lambda: dequantize_linear(MICROSOFT, SIXTEEN), 0, 19),
]


def main():
    qloupe, words = sys.argv[1], sys.argv[2:]
    good = True
    for name, cases, bound, opset in OPERATORS:
        if not words or any(word.lower() in name.lower() for word in words):
            good &= check(qloupe, name, list(cases()), bound, opset)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

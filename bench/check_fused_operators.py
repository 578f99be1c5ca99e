#!/usr/bin/env python3
"""Checks the float operators of com.microsoft against ONNX Runtime, one node at a time.

Usage: check_fused_operators.py QLOUPE [WORD..]          only cases whose names contain one of the words

Needs the PyPI packages numpy, onnx and onnxruntime. Every case makes a model of one node and runs it three times: with
all inputs fed, with all but the first as constants, and with all floats stored as float16, for which ONNX Runtime
computes the same numbers in float32. It passes when no output is further from that of ONNX Runtime than the tolerance, as
a part of the range of the output. Quantized operators are in check_contrib_operators.py.
"""
import dataclasses, sys, zlib
import numpy as np, onnxruntime as ort
import check_contrib_operators as contrib
from check_contrib_operators import MICROSOFT, Fed, ours_of, reference_of

OPSET = 21


@dataclasses.dataclass
class Case:
    """One node: inputs are arrays (None for an absent one), `outputs` counts its outputs or names their dtypes."""
    name: str
    op_type: str
    inputs: list
    attributes: dict = dataclasses.field(default_factory=dict)
    outputs: object = 1
    domain: str = MICROSOFT
    tolerance: float = 1e-5
    # What ONNX Runtime specifies of an output: called with its position and the array.
    part: object = staticmethod(lambda position, array: array)


# Half a unit in the last place of float16: outputs round once.
HALF_TOLERANCE = 2.0 ** -11


def dtypes_of(case):
    return case.outputs if isinstance(case.outputs, list) else [np.float32] * case.outputs


def stored(case, dtype):
    """The case with its floats, in and out, rounded to float16 and stored as another dtype."""
    def cast(array):
        is_float = array is not None and array.dtype == np.float32
        return array.astype(np.float16).astype(dtype) if is_float else array
    return dataclasses.replace(case, inputs=[cast(i) for i in case.inputs], tolerance=HALF_TOLERANCE,
                               outputs=[dtype if o == np.float32 else o for o in dtypes_of(case)])


def model_of(case, constant):
    """The model, and the arrays it is fed."""
    is_fed = lambda position, array: array is not None and (position == 0 or not constant)
    inputs = [Fed(a) if is_fed(i, a) else a for i, a in enumerate(case.inputs)]
    node = contrib.Case(case.op_type, inputs, dtypes_of(case), case.domain, **case.attributes)
    return contrib.model_of([node], OPSET)


def error_of(reference, test):
    """The largest difference as a part of the range; infinite where one is finite and the other is not."""
    reference, test = (a.astype(np.float64) for a in (reference, test))
    if reference.size == 0:
        return 0.0
    same = (reference == test) | (np.isnan(reference) & np.isnan(test))
    if not np.isfinite(reference[~same]).all() or not np.isfinite(test[~same]).all():
        return np.inf
    finite = reference[np.isfinite(reference)]
    scale = max(np.ptp(finite), np.abs(finite).max(), 1e-3) if finite.size else 1.0
    return np.abs(np.where(same, 0, reference - test)).max() / scale


def check(qloupe, case, variant):
    """What is wrong with a case, or nothing."""
    constant, half = variant == "constant", variant == "float16"
    references = reference_of(*model_of(stored(case, np.float32) if half else case, constant))
    case = stored(case, np.float16) if half else case
    ours = ours_of(qloupe, *model_of(case, constant))
    for position, (name, reference) in enumerate(references.items()):
        test = ours[name]
        expected = case.outputs[position] if half and position == 0 else reference.dtype
        is_kind = test.dtype == expected or (half and position > 0)
        if test.size != reference.size or not is_kind:
            return f"output {position} is {test.dtype} {test.shape}, expected {expected} {reference.shape}"
        parts = (case.part(position, a) for a in (reference, test.reshape(reference.shape)))
        error = error_of(*parts)
        if error > case.tolerance:
            return f"output {position}: error {error:.2e}"
    return None


class Arrays:
    """Random arrays; equal names give equal arrays."""

    def __init__(self, name):
        self.random = np.random.default_rng(zlib.crc32(name.encode()))

    def floats(self, *shape, scale=1.0):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def integers(self, low, high, *shape, dtype=np.int32):
        return self.random.integers(low, high, shape).astype(dtype)


def activation_cases():
    a = Arrays("activations")
    x = a.floats(2, 5, 24, scale=3)
    yield Case("gelu", "Gelu", [x])
    yield Case("quick_gelu", "QuickGelu", [x], {"alpha": 1.5})
    yield Case("bias_gelu", "BiasGelu", [x, a.floats(24)])
    yield Case("fast_gelu", "FastGelu", [x])
    yield Case("fast_gelu_bias", "FastGelu", [x, a.floats(24)])


def normalization_cases():
    a = Arrays("normalizations")
    x, row = a.floats(2, 5, 24), [a.floats(24) for _ in range(3)]
    skips = {"same": a.floats(2, 5, 24), "one_batch": a.floats(1, 5, 24), "rank_2": a.floats(5, 24)}
    for name, skip in skips.items():
        yield Case(f"skip_layer_norm_{name}", "SkipLayerNormalization", [x, skip, row[0], row[1]], {"epsilon": 1e-5})
    unspecified = lambda position, array: array[:0] if position in (1, 2) else array
    yield Case("skip_layer_norm_sum", "SkipLayerNormalization", [x, skips["same"], *row], {}, 4, part=unspecified)
    yield Case("skip_layer_norm_no_beta", "SkipLayerNormalization", [x, skips["same"], row[0]])
    yield Case("simplified_layer_norm", "SimplifiedLayerNormalization", [x, row[0]], {"axis": -1, "epsilon": 1e-6}, domain="")
    yield Case("simplified_layer_norm_statistics", "SimplifiedLayerNormalization", [x, row[0]], {"axis": -1}, 2, domain="")
    yield Case("skip_simplified_layer_norm", "SkipSimplifiedLayerNormalization", [x, skips["same"], row[0]], {"epsilon": 1e-6})
    yield Case("skip_simplified_layer_norm_bias", "SkipSimplifiedLayerNormalization", [x, skips["same"], *row[:2]])
    ids, segments = a.integers(0, 20, 2, 5), a.integers(0, 2, 2, 5)
    tables = [a.floats(20, 24), a.floats(7, 24), a.floats(2, 24)]
    types = [np.float32, np.int32, np.float32]
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    norm = row[:2]
    yield Case("embed_layer_norm", "EmbedLayerNormalization", [ids, segments, *tables, *norm, mask], {"epsilon": 1e-6}, types)
    yield Case("embed_layer_norm_no_segments", "EmbedLayerNormalization", [ids, None, *tables[:2], None, *norm], {}, types[:2])
    positions = a.integers(0, 7, 2, 5)
    yield Case("embed_layer_norm_positions", "EmbedLayerNormalization", [ids, segments, *tables, *norm, None, positions], {}, types[:2])


def product_cases():
    a = Arrays("products")
    image, weight, bias = a.floats(2, 6, 9, 8), a.floats(8, 6, 3, 3, scale=0.3), a.floats(8)
    conv = {"pads": [1, 1, 1, 1]}
    for name, parameters in [("Relu", []), ("Sigmoid", []), ("Tanh", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 1.5]),
                             ("HardSigmoid", [0.3, 0.4])]:
        attributes = {"activation": name, **({"activation_params": parameters} if parameters else {}), **conv}
        yield Case(f"fused_conv_{name.lower()}", "FusedConv", [image, weight, bias], attributes)
    addend = a.floats(2, 8, 9, 8)
    yield Case("fused_conv_addend", "FusedConv", [image, weight, bias, addend], {"activation": "Relu", **conv})
    yield Case("fused_conv_group_1d", "FusedConv", [a.floats(1, 4, 9), a.floats(4, 2, 3)], {"activation": "Relu", "group": 2})
    left, right = a.floats(5, 7), a.floats(7, 4)
    for name, parameters in [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Tanh", {})]:
        yield Case(f"fused_gemm_{name.lower()}", "FusedGemm", [left, right, a.floats(4)], {"activation": name, **parameters})
    yield Case("fused_gemm_transposed", "FusedGemm", [a.floats(7, 5), a.floats(4, 7), a.floats(5, 1)],
               {"activation": "Relu", "transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0})
    yield Case("fused_mat_mul", "FusedMatMul", [a.floats(2, 3, 5, 7), a.floats(3, 7, 4)], {"alpha": 0.125})
    yield Case("fused_mat_mul_transposed", "FusedMatMul", [a.floats(2, 7, 5), a.floats(2, 4, 7)], {"transA": 1, "transB": 1})
    yield Case("fused_mat_mul_batch_a", "FusedMatMul", [a.floats(5, 2, 3, 7), a.floats(2, 3, 7, 4)], {"transBatchA": 1})
    yield Case("fused_mat_mul_batch_b", "FusedMatMul", [a.floats(2, 3, 5, 7), a.floats(4, 2, 3, 7)], {"transBatchB": 1, "transB": 1})
    yield Case("fused_mat_mul_vector", "FusedMatMul", [a.floats(7), a.floats(7, 4)], {"alpha": 2.0})
    yield Case("transpose_mat_mul", "TransposeMatMul", [a.floats(2, 7, 5), a.floats(2, 7, 4)], {"transA": 1})


def mat_mul_n_bits_cases():
    a = Arrays("n_bits")
    for bits, block, k, n in [(4, 16, 40, 6), (4, 32, 64, 8), (8, 32, 40, 5), (2, 32, 64, 4), (4, 128, 300, 3)]:
        blocks = -(-k // block)
        x = a.floats(2, 3, k)
        weight = a.integers(0, 256, n, blocks, block * bits // 8, dtype=np.uint8)
        scales = np.abs(a.floats(n, blocks)) + 0.1
        packed = a.integers(0, 256, n, -(-blocks * bits // 8), dtype=np.uint8)
        sizes = {"K": k, "N": n, "bits": bits, "block_size": block}
        name = f"mat_mul_{bits}_bits_block_{block}"
        yield Case(name, "MatMulNBits", [x, weight, scales], sizes)
        yield Case(f"{name}_zero_points", "MatMulNBits", [x, weight, scales, packed], sizes)
        yield Case(f"{name}_bias", "MatMulNBits", [x, weight, scales, packed, None, a.floats(n)], sizes)
        if bits == 8:
            continue  # ONNX Runtime takes no float zero points there.
        floats = a.floats(n, blocks) + 2 ** (bits - 1)
        yield Case(f"{name}_float_zero_points", "MatMulNBits", [x, weight, scales, floats], sizes)


def tables_of(a, rows, pairs):
    angles = a.floats(rows, pairs, scale=2)
    return [np.cos(angles), np.sin(angles)]


def rotary_cases():
    a = Arrays("rotary")
    tables = tables_of(a, 16, 4)
    flat, heads = a.floats(2, 5, 24), a.floats(2, 3, 5, 8)
    one, each = np.array([3], np.int64), a.integers(0, 16, 2, 5, dtype=np.int64)
    for interleaved in (0, 1):
        attributes = {"interleaved": interleaved}
        yield Case(f"rotary_flat_{interleaved}", "RotaryEmbedding", [flat, one, *tables], attributes)
        yield Case(f"rotary_heads_{interleaved}", "RotaryEmbedding", [heads, each, *tables], attributes)
        partial = {**attributes, "num_heads": 3, "rotary_embedding_dim": 4}
        yield Case(f"rotary_partial_{interleaved}", "RotaryEmbedding", [flat, each, *tables_of(a, 16, 2)], partial)


def attention_cases():
    a = Arrays("attention")
    x, weight, bias = a.floats(2, 5, 12), a.floats(12, 72, scale=0.3), a.floats(72)
    two = {"num_heads": 4}
    masks = {"keys": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32), "ends": np.array([3, 5], np.int32),
             "ranges": np.array([3, 5, 1, 0], np.int32), "queries": a.integers(0, 2, 2, 5, 5)}
    yield Case("attention", "Attention", [x, weight, bias], two)
    yield Case("attention_no_bias", "Attention", [x, weight], {**two, "scale": 0.2})
    yield Case("attention_causal", "Attention", [x, weight, bias], {**two, "unidirectional": 1})
    for name, mask in masks.items():
        yield Case(f"attention_mask_{name}", "Attention", [x, weight, bias, mask], two)
    yield Case("attention_mask_causal", "Attention", [x, weight, bias, masks["ranges"]], {**two, "unidirectional": 1})
    yield Case("attention_filter", "Attention", [x, weight, bias, masks["keys"]], {**two, "mask_filter_value": -3.0})
    yield Case("attention_past", "Attention", [x, weight, bias, None, a.floats(2, 2, 4, 3, 6)], {**two, "unidirectional": 1}, 2)
    yield Case("attention_past_mask", "Attention",
               [x, weight, bias, np.array([[1] * 8, [0, 0] + [1] * 6], np.int32), a.floats(2, 2, 4, 3, 6)], two, 2)
    yield Case("attention_score_bias", "Attention", [x, weight, bias, None, None, a.floats(1, 4, 5, 5)], two)
    sizes = {"qkv_hidden_sizes": [16, 16, 40]}
    yield Case("attention_value_size", "Attention", [x, weight, bias], {**two, **sizes})


def multi_head_attention_cases():
    a = Arrays("multi_head_attention")
    op, heads = "MultiHeadAttention", {"num_heads": 4}
    q, k, v = a.floats(2, 5, 24), a.floats(2, 7, 24), a.floats(2, 7, 32)
    bias = a.floats(80)
    keys = np.array([[1] * 7, [1, 1, 1, 0, 0, 0, 0]], np.int32)
    yield Case("mha", op, [q, k, v], heads)
    yield Case("mha_bias", op, [q, k, v, bias], {**heads, "scale": 0.3})
    yield Case("mha_mask_keys", op, [q, k, v, None, keys], heads)
    yield Case("mha_mask_ends", op, [q, k, v, None, np.array([7, 3], np.int32)], heads)
    yield Case("mha_mask_queries", op, [q, k, v, None, a.integers(0, 2, 2, 5, 7)], {**heads, "mask_filter_value": -50.0})
    yield Case("mha_score_bias", op, [q, k, v, None, keys, a.floats(2, 1, 5, 7)], heads)
    yield Case("mha_causal", op, [q, q, q], {**heads, "unidirectional": 1})
    yield Case("mha_heads", op, [q, a.floats(2, 4, 7, 6), a.floats(2, 4, 7, 6)], heads)
    past = [a.floats(2, 4, 3, 6), a.floats(2, 4, 3, 6)]
    yield Case("mha_past", op, [q, q[:, ::-1].copy(), q, None, None, None, *past], heads, 3)
    yield Case("mha_past_causal", op, [q, q[:, ::-1].copy(), q, None, None, None, *past], {**heads, "unidirectional": 1}, 3)
    yield Case("mha_past_one_query", op, [q[:, :1].copy(), q[:, 1:2].copy(), q[:, 2:3].copy(), None, None, None, *past],
               {**heads, "unidirectional": 1}, 3)
    yield Case("mha_scores", op, [q, k, v, None, keys], heads, 4, part=lambda position, array: array)


def group_query_attention_cases():
    a = Arrays("group_query_attention")
    op, heads = "GroupQueryAttention", {"num_heads": 4, "kv_num_heads": 2}
    size = 16

    def case(name, new, ends, total, past=None, attributes={}, packed=False, tables=(), positions=None, bias=None, sink=None):
        batch = len(ends)
        q, k, v = (a.floats(batch, new, n * size) for n in (4, 2, 2))
        parts = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
        cache = [a.floats(batch, 2, past or 0, size) for _ in range(2)]
        last = np.array(ends, np.int32) - 1
        inputs = [*parts, *cache, last, np.array(total, np.int32), *(tables or (None, None)), positions, bias, sink]
        while inputs[-1] is None:
            inputs.pop()

        def part(position, array):
            # Padding, in the output as in the cache, has no meaning.
            first = new == total
            if position == 0:
                return np.concatenate([array[b, :end if first else new].ravel() for b, end in enumerate(ends)])
            return np.concatenate([array[b, :, :end].ravel() for b, end in enumerate(ends)])
        return Case(name, op, inputs, {**heads, **attributes}, 3, part=part)

    tables = tables_of(a, 16, size // 2)
    rotary = {"do_rotary": 1}
    yield case("gqa_prompt", 5, [5, 5], 5)
    yield case("gqa_prompt_padded", 5, [3, 5], 5)
    yield case("gqa_packed", 5, [5, 5], 5, packed=True)
    yield case("gqa_step", 1, [7, 4], 7, past=6)
    yield case("gqa_step_room", 1, [7, 4], 7, past=12)
    yield case("gqa_several_steps", 3, [9], 9, past=6)
    yield case("gqa_rotary", 5, [5, 5], 5, attributes=rotary, tables=tables)
    yield case("gqa_rotary_step", 1, [7, 4], 7, past=6, attributes=rotary, tables=tables)
    yield case("gqa_rotary_interleaved", 1, [7, 4], 7, past=6, attributes={**rotary, "rotary_interleaved": 1}, tables=tables)
    yield case("gqa_rotary_packed", 5, [5, 5], 5, attributes=rotary, tables=tables, packed=True)
    yield case("gqa_rotary_positions", 1, [7, 4], 7, past=6, attributes=rotary, tables=tables,
               positions=np.array([[5], [2]], np.int64))
    yield case("gqa_window", 6, [6, 6], 6, attributes={"local_window_size": 3})
    yield case("gqa_window_step", 1, [7, 4], 7, past=6, attributes={"local_window_size": 3})
    yield case("gqa_cap", 5, [5, 5], 5, attributes={"softcap": 0.7, "scale": 0.5})
    yield case("gqa_smooth", 5, [5, 5], 5, attributes={"smooth_softmax": 1})
    yield case("gqa_sink", 5, [5, 5], 5, sink=a.floats(4))
    yield case("gqa_bias", 5, [5, 5], 5, bias=a.floats(1, 4, 5, 5))
    yield case("gqa_bias_step", 1, [7, 4], 7, past=6, bias=a.floats(2, 1, 1, 7))


GROUPS = [activation_cases, normalization_cases, product_cases, mat_mul_n_bits_cases, rotary_cases, attention_cases,
          multi_head_attention_cases, group_query_attention_cases]


def main():
    qloupe, *words = sys.argv[1:]
    n_checked = n_failed = 0
    for case in (case for group in GROUPS for case in group()):
        if words and not any(word in case.name for word in words):
            continue
        for variant in ("fed", "constant", "float16"):
            try:
                wrong = check(qloupe, case, variant)
            except Exception as error:
                wrong = " ".join(str(error).split())[:300]
            n_checked += 1
            n_failed += wrong is not None
            if wrong:
                print(f"{case.name} ({variant}): {wrong}")
    print(f"{n_checked - n_failed} of {n_checked} runs agree with ONNX Runtime {ort.__version__}")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())

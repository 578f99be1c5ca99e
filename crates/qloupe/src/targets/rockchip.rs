//! Rockchip's NPUs: with 8-bit activations and weights, RK3588 and its kind; with integer weights and float16 values, `w4a16` and
//! `w8a16` of the vendor.
//!
//! Scales and zero points follow the vendor's rule; its simulator gives weights a zero point, too. The requantization of the silicon is not documented: float scale,
//! ties to even, is provisional. What a product computes before it rounds is what the vendor's simulator of
//! rknn-toolkit2 2.5.0 leaves off the grid (docs/BENCHMARKS.md has the patterns that were tried).

use qloupe_tensor::Requantize::FloatScaleZeroPointAfter;
use qloupe_tensor::{DType, Granularity, QuantScheme, Rounding};

use super::fp16::FP16;
use super::{Fusion, Support, Target};

const INT8: Support = Support::Int8(FloatScaleZeroPointAfter);

pub(super) const RK3588: Target = Target {
    id: "rk3588",
    title: "Rockchip RK3588 NPU: int8 activations and weights",
    activation: Some(QuantScheme {
        dtype: DType::Int8,
        symmetric: false,
        granularity: Granularity::PerTensor,
        rounding: Rounding::TiesEven,
        narrow_range: false,
    }),
    weight_dtype: DType::Int8,
    weight_block: None,
    symmetric_weights: false,
    operators: &[
        ("Add", INT8),
        ("AveragePool", INT8),
        ("BatchNormalization", INT8),
        ("Clip", Support::Int8Exact),
        ("Concat", Support::Int8Exact),
        ("Conv", INT8),
        ("ConvTranspose", INT8),
        ("DepthToSpace", Support::Int8Exact),
        ("Div", INT8),
        ("Elu", Support::Int8Exact),
        ("Expand", Support::Int8Exact),
        ("Flatten", Support::Int8Exact),
        ("Gather", Support::Int8Exact),
        ("Gelu", Support::Int8Exact),
        ("Gemm", INT8),
        ("GlobalAveragePool", INT8),
        ("GlobalMaxPool", Support::Int8Exact),
        ("GRU", Support::Int8Weights),
        ("HardSigmoid", Support::Int8Exact),
        ("HardSwish", Support::Int8Exact),
        ("Identity", Support::Int8Exact),
        ("LeakyRelu", Support::Int8Exact),
        ("LSTM", Support::Int8Weights),
        ("MatMul", INT8),
        ("Max", INT8),
        ("MaxPool", Support::Int8Exact),
        ("Min", INT8),
        ("Mish", Support::Int8Exact),
        ("Mul", INT8),
        ("PRelu", INT8),
        ("Pad", Support::Int8Exact),
        ("ReduceMean", INT8),
        ("Relu", Support::Int8Exact),
        ("Reshape", Support::Int8Exact),
        ("Resize", Support::Int8Exact),
        ("Sigmoid", Support::Int8Exact),
        ("Slice", Support::Int8Exact),
        ("Softplus", Support::Int8Exact),
        ("SpaceToDepth", Support::Int8Exact),
        ("Split", Support::Int8Exact),
        ("Squeeze", Support::Int8Exact),
        ("Sub", INT8),
        ("Tanh", Support::Int8Exact),
        ("Tile", Support::Int8Exact),
        ("Transpose", Support::Int8Exact),
        ("Unsqueeze", Support::Int8Exact),
        ("Upsample", Support::Int8Exact),
    ],
    fallback: Support::Fp16,
    fusions: &[
        Fusion::Relu,
        Fusion::Clip,
        Fusion::Silu,
        Fusion::HardSwish,
        Fusion::Gelu,
        Fusion::LayerNormalization,
        Fusion::ConvAdd,
    ],
    product_activations: &[
        "Elu",
        "Gelu",
        "HardSwish",
        "LeakyRelu",
        "PRelu",
        "Sigmoid",
        "Softplus",
        "Swish",
        "Tanh",
    ],
    shared_scale: &[
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Upsample",
    ],
    note: Some("checked against the vendor's PC simulator, not silicon"),
};

/// A chip that the vendor's compiler quantizes by the same rules.
const fn like_rk3588(id: &'static str, title: &'static str) -> Target {
    Target { id, title, ..RK3588 }
}

pub(super) const RK3562: Target = like_rk3588("rk3562", "Rockchip RK3562 NPU: int8 activations and weights");
pub(super) const RK3566: Target = like_rk3588("rk3566", "Rockchip RK3566 NPU: int8 activations and weights");
pub(super) const RK3568: Target = like_rk3588("rk3568", "Rockchip RK3568 NPU: int8 activations and weights");
pub(super) const RK3576: Target = like_rk3588("rk3576", "Rockchip RK3576 NPU: int8 activations and weights");
pub(super) const RV1103: Target = like_rk3588("rv1103", "Rockchip RV1103 NPU: int8 activations and weights");
pub(super) const RV1106: Target = like_rk3588("rv1106", "Rockchip RV1106 NPU: int8 activations and weights");
pub(super) const RV1126B: Target =
    like_rk3588("rv1126b", "Rockchip RV1126B NPU: int8 activations and weights");

/// Input channels of a block: `quantized_method='group32'`.
const BLOCK: usize = 32;

/// What the vendor's simulator of rknn-toolkit2 2.5.0 quantizes: Gemm, MatMul with a constant matrix, Conv of one group. Convolutions
/// in groups and ConvTranspose stay float16. Everything else is as in target `fp16`.
pub(super) const RK3576_W4A16: Target = Target {
    id: "rk3576-w4a16",
    title: "Rockchip RK3576 NPU: int4 weights in blocks, float16 values",
    weight_dtype: DType::Int4,
    weight_block: Some(BLOCK),
    operators: &[
        ("Conv", Support::WeightOnly),
        ("Gemm", Support::WeightOnly),
        ("MatMul", Support::WeightOnly),
    ],
    note: RK3588.note,
    ..FP16
};
pub(super) const RV1126B_W4A16: Target = Target {
    id: "rv1126b-w4a16",
    title: "Rockchip RV1126B NPU: int4 weights in blocks, float16 values",
    ..RK3576_W4A16
};
pub(super) const RK3562_W8A16: Target = Target {
    id: "rk3562-w8a16",
    title: "Rockchip RK3562 NPU: int8 weights, float16 values",
    weight_dtype: DType::Int8,
    weight_block: None,
    note: Some(
        "scales checked against the vendor's PC simulator, operators are those of rk3576-w4a16; not silicon",
    ),
    ..RK3576_W4A16
};

//! Rockchip's NPUs with integer weights and float16 values: `w4a16` and `w8a16` of the vendor.
//!
//! What its simulator of rknn-toolkit2 2.5.0 quantizes: Gemm, MatMul with a constant matrix, Conv of one group. Convolutions in
//! groups and ConvTranspose stay float16 (docs/BENCHMARKS.md). Everything else is as in target `fp16`.

use qloupe_tensor::DType;

use super::fp16::FP16;
use super::{Support, Target};

/// Input channels of a block: `quantized_method='group32'`.
const BLOCK: usize = 32;

const W4A16: Target = Target {
    weight_dtype: DType::Int4,
    weight_block: Some(BLOCK),
    operators: &[
        ("Conv", Support::WeightOnly),
        ("Gemm", Support::WeightOnly),
        ("MatMul", Support::WeightOnly),
    ],
    note: Some("checked against the vendor's PC simulator, not silicon"),
    ..FP16
};

pub(super) const RK3562_W8A16: Target = Target {
    id: "rk3562-w8a16",
    title: "Rockchip RK3562 NPU: int8 weights, float16 values",
    weight_dtype: DType::Int8,
    weight_block: None,
    ..W4A16
};
pub(super) const RK3576_W4A16: Target = Target {
    id: "rk3576-w4a16",
    title: "Rockchip RK3576 NPU: int4 weights in blocks, float16 values",
    ..W4A16
};
pub(super) const RV1126B_W4A16: Target = Target {
    id: "rv1126b-w4a16",
    title: "Rockchip RV1126B NPU: int4 weights in blocks, float16 values",
    ..W4A16
};

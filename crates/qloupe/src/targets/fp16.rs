//! The target `fp16`: float16 storage of every value and weight, float32 arithmetic inside a unit.

use qloupe_tensor::DType;

use super::{Support, Target};

pub(super) const FP16: Target = Target {
    id: "fp16",
    title: "float16 storage, no integers",
    activation: None,
    weight_dtype: DType::Float16,
    operators: &[],
    fallback: Support::Fp16,
    fusions: &[],
    shared_scale: &[],
    note: None,
};

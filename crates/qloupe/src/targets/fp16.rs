//! The target `fp16`: float16 storage of every value and weight, float32 arithmetic inside a unit.

use qloupe_tensor::DType;

use super::{Support, Target};

pub(super) const FP16: Target = Target {
    id: "fp16",
    title: "float16 storage, no integers",
    activation: None,
    weight_dtype: DType::Float16,
    weight_block: None,
    symmetric_weights: true,
    operators: &[],
    fallback: Support::Fp16,
    fusions: &[],
    product_activations: &[],
    shared_scale: &[],
    note: None,
};

//! The target `onnxruntime`: the integer kernels that ONNX Runtime's CPU provider fuses from a QDQ model.
//!
//! Checked unit by unit against ONNX Runtime 1.32 on a CPU with VNNI. Operators without an integer kernel run in
//! float32 between dequantize and quantize, as they do there.

use qloupe_tensor::Requantize::{FloatScaleZeroPointAfter, FloatScaleZeroPointBefore};
use qloupe_tensor::{DType, Granularity, QuantScheme, Rounding};

use super::{Fusion, Support, Target};

pub(crate) const ONNXRUNTIME: Target = Target {
    id: "onnxruntime",
    title: "ONNX Runtime CPU: uint8 activations, int8 weights",
    activation: Some(QuantScheme {
        dtype: DType::UInt8,
        symmetric: false,
        granularity: Granularity::PerTensor,
        rounding: Rounding::TiesEven,
        narrow_range: false,
    }),
    weight_dtype: DType::Int8,
    weight_block: None,
    symmetric_weights: true,
    operators: &[
        ("Add", Support::Int8(FloatScaleZeroPointBefore)),
        ("AveragePool", Support::Int8(FloatScaleZeroPointBefore)),
        ("Clip", Support::Int8Exact),
        ("Concat", Support::Int8Exact),
        ("Conv", Support::Int8(FloatScaleZeroPointAfter)),
        ("ConvTranspose", Support::Int8(FloatScaleZeroPointAfter)),
        ("DepthToSpace", Support::Int8Exact),
        ("Expand", Support::Int8Exact),
        ("Flatten", Support::Int8Exact),
        ("Gather", Support::Int8Exact),
        ("Gemm", Support::Int8(FloatScaleZeroPointAfter)),
        ("GlobalAveragePool", Support::Int8(FloatScaleZeroPointAfter)),
        ("Identity", Support::Int8Exact),
        ("LeakyRelu", Support::Int8Exact),
        ("MatMul", Support::Int8(FloatScaleZeroPointAfter)),
        ("MaxPool", Support::Int8Exact),
        ("Mul", Support::Int8(FloatScaleZeroPointBefore)),
        ("Relu", Support::Int8Exact),
        ("Reshape", Support::Int8Exact),
        ("Resize", Support::Int8Exact),
        ("Sigmoid", Support::Int8Exact),
        ("Slice", Support::Int8Exact),
        ("Softmax", Support::Int8(FloatScaleZeroPointAfter)),
        ("SpaceToDepth", Support::Int8Exact),
        ("Split", Support::Int8Exact),
        ("Squeeze", Support::Int8Exact),
        ("Tile", Support::Int8Exact),
        ("Transpose", Support::Int8Exact),
        ("Unsqueeze", Support::Int8Exact),
    ],
    fallback: Support::Float,
    fusions: &[
        Fusion::Relu,
        Fusion::Clip,
        Fusion::Gelu,
        Fusion::LayerNormalization,
    ],
    product_activations: &[],
    shared_scale: &[
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
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
    ],
    note: None,
};

/// With 16-bit activations, which have no integer kernels there: units compute in float32 between dequantize and quantize. By
/// default ONNX Runtime 1.32 turns MatMul with such weights into its MatMulNBits, which rounds what it reads to 8 bits by itself;
/// this is what it computes without that.
pub(crate) const ONNXRUNTIME_W8A16: Target = Target {
    id: "onnxruntime-w8a16",
    title: "ONNX Runtime CPU: uint16 activations, int8 weights",
    activation: Some(QuantScheme {
        dtype: DType::UInt16,
        symmetric: false,
        granularity: Granularity::PerTensor,
        rounding: Rounding::TiesEven,
        narrow_range: false,
    }),
    ..ONNXRUNTIME
};

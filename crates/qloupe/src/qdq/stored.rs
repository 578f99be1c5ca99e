//! Integers of a model and the DequantizeLinear behind them.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Granularity, QuantParams, Tensor, TensorError};

/// The type of scales, which is that of the numbers they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleType {
    /// Beside float32 values.
    Float32,
    /// Beside float16 values; scales are rounded to it.
    Float16,
}

/// The node that makes real numbers (`target`) of integers, with the initializers it reads: `NAME_quantized`, `NAME_scale`,
/// `NAME_zero_point`. The last is absent where every zero point is 0 and the integers have 4 bits or fewer.
///
/// # Errors
/// Parameters that do not fit the integers.
pub(crate) fn dequantized(
    name: &str,
    integers: Tensor,
    params: &QuantParams,
    target: &str,
    scale_type: ScaleType,
) -> Result<(Node, Vec<(String, Tensor)>), TensorError> {
    let named = |part: &str| format!("{name}_{part}");
    let shape = scale_shape(params, integers.shape());
    let scale = match scale_type {
        ScaleType::Float32 => Tensor::new(&shape, params.scale().to_vec())?,
        ScaleType::Float16 => {
            let halves = params.scale().iter().map(|&scale| half::f16::from_f32(scale));
            Tensor::new(&shape, halves.collect::<Vec<_>>())?
        }
    };
    let mut inputs = vec![named("quantized"), named("scale")];
    let mut initializers = vec![(named("quantized"), integers), (named("scale"), scale)];
    let is_small = params.dtype().size_bits() < DType::Int8.size_bits();
    if !is_small || params.zero_point().iter().any(|&zero_point| zero_point != 0) {
        inputs.push(named("zero_point"));
        let zero_point = integers_of(params.dtype(), &shape, params.zero_point())?;
        initializers.push((named("zero_point"), zero_point));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut node = Node::new("DequantizeLinear", &named("DequantizeLinear"), &inputs, &[target]);
    let number = |n: usize| AttributeValue::Int(i64::try_from(n).unwrap_or(0));
    match params.granularity() {
        Granularity::PerTensor => {}
        Granularity::PerChannel { axis } => node = node.with_attribute("axis", number(axis)),
        Granularity::PerBlock { axis, block_size } => {
            node = node.with_attribute("axis", number(axis));
            node = node.with_attribute("block_size", number(block_size));
        }
    }
    Ok((node, initializers))
}

/// The shape that ONNX gives scales of a tensor of this shape.
fn scale_shape(params: &QuantParams, shape: &[usize]) -> Vec<usize> {
    match params.granularity() {
        Granularity::PerTensor => Vec::new(),
        Granularity::PerChannel { .. } => vec![params.scale().len()],
        Granularity::PerBlock { axis, block_size } => {
            let mut shape = shape.to_vec();
            shape[axis] = shape[axis].div_ceil(block_size);
            shape
        }
    }
}

/// Integers of a dtype.
///
/// # Errors
/// A number that does not fit the shape.
pub(super) fn integers_of(dtype: DType, shape: &[usize], values: &[i32]) -> Result<Tensor, TensorError> {
    let values = values.iter();
    match dtype {
        DType::Int8 => Tensor::new(shape, values.map(|&v| v as i8).collect::<Vec<_>>()),
        DType::UInt8 => Tensor::new(shape, values.map(|&v| v as u8).collect::<Vec<_>>()),
        DType::Int16 => Tensor::new(shape, values.map(|&v| v as i16).collect::<Vec<_>>()),
        DType::UInt16 => Tensor::new(shape, values.map(|&v| v as u16).collect::<Vec<_>>()),
        dtype if dtype.size_bits() < DType::Int8.size_bits() => {
            Tensor::from_codes(dtype, shape, values.map(|v| v.to_le_bytes()[0]).collect())
        }
        _ => Tensor::new(shape, values.copied().collect::<Vec<i32>>()),
    }
}

//! DynamicQuantizeLinear: quantizes to uint8 by the range of the data.

use qloupe_kernels::{QuantizedSliceMut, quantize};
use qloupe_tensor::{DType, Rounding, Tensor};

use super::elementwise::typed;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `scale = (max - min) / 255`, `zero_point = clip(round(-min / scale))`, `q = clip(round(x / scale) + zero_point)`; the
/// range is extended to contain 0. A tensor of zeros gets scale 1.
#[derive(Debug)]
pub(super) struct DynamicQuantizeLinear;

impl Operator for DynamicQuantizeLinear {
    fn op_type(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let scalar = |dtype| Fact::new(Some(dtype), Some(Vec::new()));
        let q = Fact::new(Some(DType::UInt8), ctx.require(0)?.shape.clone());
        Ok(vec![q, scalar(DType::Float32), scalar(DType::UInt8)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (q, scale, zero_point) = quantize_by_range(typed::<f32>(ctx, 0)?);
        Ok(vec![
            Tensor::new(ctx.require(0)?.shape(), q)?,
            Tensor::scalar(scale),
            Tensor::scalar(zero_point),
        ])
    }
}

/// The integers, scale and zero point of DynamicQuantizeLinear.
pub(super) fn quantize_by_range(x: &[f32]) -> (Vec<u8>, f32, u8) {
    let (min, max) = x
        .iter()
        .fold((0.0_f32, 0.0_f32), |(min, max), &v| (min.min(v), max.max(v)));
    let range = max - min;
    let scale = if range > 0.0 { range / 255.0 } else { 1.0 };
    let zero_point = Rounding::TiesEven.round(-min / scale).clamp(0.0, 255.0) as u8;
    let mut q = vec![0; x.len()];
    quantize(x, scale, i32::from(zero_point), QuantizedSliceMut::U8(&mut q));
    (q, scale, zero_point)
}

/// The real numbers that are left of `x` after DynamicQuantizeLinear: on the grid of its own range.
pub(crate) fn dynamic_fake_quantize(x: &[f32]) -> Vec<f32> {
    let (q, scale, zero_point) = quantize_by_range(x);
    let real = |q: u8| f32::from(i16::from(q) - i16::from(zero_point)) * scale;
    q.into_iter().map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_its_own() {
        struct Case {
            x: Vec<f32>,
            expected: Vec<f32>,
        }
        let cases = [
            Case {
                x: vec![-1.0, 0.0, 0.3, 254.0],
                expected: vec![-1.0, 0.0, 0.0, 254.0],
            },
            Case {
                x: vec![0.0, 0.0],
                expected: vec![0.0, 0.0],
            },
            Case {
                x: vec![1e-45, 0.0],
                expected: vec![0.0, 0.0],
            },
            Case {
                x: vec![],
                expected: vec![],
            },
        ];
        for Case { x, expected } in cases {
            assert_eq!(dynamic_fake_quantize(&x), expected, "{x:?}");
        }
        assert!(
            dynamic_fake_quantize(&[1.0, f32::INFINITY])
                .iter()
                .all(|y| y.is_nan()),
            "an infinite range leaves nothing"
        );
    }
}

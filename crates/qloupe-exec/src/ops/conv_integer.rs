//! ConvInteger: the convolution of 8-bit integers as int32.

use qloupe_tensor::{DType, Tensor};

use super::integer_conv::{ConvInputs, convolve, infer_conv};
use super::quant_parameters::accumulators;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = conv(x - x_zero_point, w - w_zero_point)`, exact; the zero point of w may be one for each output channel.
///
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct ConvInteger;

impl Operator for ConvInteger {
    fn op_type(&self) -> &'static str {
        "ConvInteger"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_conv(ctx, 1, Some(DType::Int32))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let inputs = ConvInputs {
            x_zero_point: 2,
            weight: 1,
            weight_zero_point: 3,
        };
        let (sums, shape) = convolve(ctx, inputs)?;
        Ok(vec![Tensor::new(&shape, accumulators(&sums)?)?])
    }
}

//! com.microsoft.QLinearMul: the product of quantized tensors.

use super::elementwise::infer_broadcast;
use super::quant_parameters::params_at;
use super::quantized_kernel::{KernelOperator, infer_of};
use crate::integer::{IntegerKernel, qlinear_mul};
use crate::{EvalContext, Fact, InferContext, OpError};

/// `c = clip(round((a - a_zero_point) * (b - b_zero_point) * a_scale * b_scale / c_scale + c_zero_point))`, broadcast; the zero point is
/// added before rounding.
#[derive(Debug)]
pub(super) struct QLinearMul;

impl KernelOperator for QLinearMul {
    const OP_TYPE: &'static str = "QLinearMul";
    const ACTIVATIONS: &'static [usize] = &[0, 3];
    const PARAMETERS: &'static [usize] = &[1, 2, 4, 5, 6, 7];

    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_of(ctx, Self::ACTIVATIONS, |ctx| infer_broadcast(ctx, ctx.dtype(0)))
    }

    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError> {
        qlinear_mul(
            &params_at(ctx, 1, 0)?,
            &params_at(ctx, 4, 3)?,
            &params_at(ctx, 6, 0)?,
        )
    }
}

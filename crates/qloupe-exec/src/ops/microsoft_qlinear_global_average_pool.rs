//! com.microsoft.QLinearGlobalAveragePool: the mean of each channel of a quantized tensor.

use super::pooling::infer_global;
use super::quant_parameters::params_at;
use super::quantized_kernel::{KernelOperator, infer_channels};
use crate::integer::{IntegerKernel, qlinear_global_average_pool};
use crate::{EvalContext, Fact, InferContext, OpError};

/// The exact int32 sum of a channel, requantized with `x_scale / (y_scale * pixels)`; with `channels_last` 1 x is
/// `[N, spatial.., C]`.
#[derive(Debug)]
pub(super) struct QLinearGlobalAveragePool;

impl KernelOperator for QLinearGlobalAveragePool {
    const OP_TYPE: &'static str = "QLinearGlobalAveragePool";
    const ACTIVATIONS: &'static [usize] = &[0];
    const PARAMETERS: &'static [usize] = &[1, 2, 3, 4];

    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_channels(ctx, ctx.node.int("channels_last") == Some(1), infer_global)
    }

    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError> {
        let (input, output) = (params_at(ctx, 1, 0)?, params_at(ctx, 3, 0)?);
        Ok(qlinear_global_average_pool(&input, &output))
    }
}

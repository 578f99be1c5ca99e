//! com.microsoft.QLinearAveragePool: the mean of a quantized tensor under a window.

use super::pooling::infer_pool;
use super::quant_parameters::params_at;
use super::quantized_kernel::{KernelOperator, infer_channels};
use crate::integer::{IntegerKernel, qlinear_average_pool};
use crate::{EvalContext, Fact, InferContext, OpError};

/// `y = clip(round(mean / y_scale + y_zero_point))` of the real numbers; with `channels_last` 1 x is `[N, spatial.., C]`.
#[derive(Debug)]
pub(super) struct QLinearAveragePool;

impl KernelOperator for QLinearAveragePool {
    const OP_TYPE: &'static str = "QLinearAveragePool";
    const ACTIVATIONS: &'static [usize] = &[0];
    const PARAMETERS: &'static [usize] = &[1, 2, 3, 4];

    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_channels(ctx, ctx.node.int("channels_last") == Some(1), |ctx| {
            Ok(vec![infer_pool(ctx)?])
        })
    }

    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError> {
        let (input, output) = (params_at(ctx, 1, 0)?, params_at(ctx, 3, 0)?);
        Ok(qlinear_average_pool(ctx.node, ctx.opset, &input, &output))
    }
}

//! AveragePool: the mean under a window.

use qloupe_kernels::average_pool;
use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::pooling::{Pool, infer_pool};
use super::pooling_gradient::averaged;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// The sum under the window, of images column by column, divided by the number of elements under it; with `count_include_pad` by those
/// of the padded input.
#[derive(Debug)]
pub(super) struct AveragePool;

impl Operator for AveragePool {
    fn op_type(&self) -> &'static str {
        "AveragePool"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![infer_pool(ctx)?])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let pool = Pool::new(ctx, x)?;
        let values = to_float32(x, 0)?;
        let include_padding = ctx.int("count_include_pad", 0) == 1;
        let y = match pool.nhwc_geometry() {
            Some(geometry) => {
                let mut y = vec![0.0; geometry.n_outputs()];
                average_pool(&values, &geometry, include_padding, &mut y);
                y
            }
            None => pool.reduce(&values, |values, taps| {
                let count = if include_padding {
                    taps.n_padded
                } else {
                    values.len()
                };
                values.iter().fold(0.0, |sum, v| sum + v) / count as f32
            }),
        };
        Ok(vec![from_float32(x.dtype(), &pool.output_shape(), y)?])
    }
}

impl Differentiable for AveragePool {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let pool = Pool::new(&ctx.call, x)?;
        let with_padding = ctx.call.int("count_include_pad", 0) == 1;
        Ok(averaged(pool, x.shape(), ctx.call.layout, with_padding))
    }
}

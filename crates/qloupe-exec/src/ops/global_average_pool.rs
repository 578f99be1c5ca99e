//! GlobalAveragePool: the mean of each channel.

use qloupe_kernels::{global_average_pool, row_means};
use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::pooling::{infer_global, planes, shape_of};
use super::pooling_gradient::globally_averaged;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, Pullback,
    PullbackContext,
};

/// The sum of all spatial elements of a channel, in order, divided by their number.
#[derive(Debug)]
pub(super) struct GlobalAveragePool;

impl Operator for GlobalAveragePool {
    fn op_type(&self) -> &'static str {
        "GlobalAveragePool"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_global(ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        if let (Layout::Nhwc, &[n, h, w, c]) = (ctx.layout, x.shape()) {
            let mut y = vec![0.0; n * c];
            global_average_pool(&to_float32(x, 0)?, n, h * w, c, &mut y);
            return Ok(vec![from_float32(x.dtype(), &[n, 1, 1, c], y)?]);
        }
        let (n, channels, spatial) = planes(x.shape(), ctx.layout)?;
        let mut y = vec![0.0; n * channels];
        row_means(&to_float32(x, 0)?, spatial.iter().product(), &mut y);
        let shape = shape_of(n, channels, &vec![1; spatial.len()], ctx.layout);
        Ok(vec![from_float32(x.dtype(), &shape, y)?])
    }
}

impl Differentiable for GlobalAveragePool {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        globally_averaged(ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qloupe_ir::Node;

    #[test]
    fn both_orders_agree() {
        let node = Node::default();
        let plain = Tensor::new(&[1, 2, 1, 2], vec![1_f32, 3.0, 10.0, 20.0]).unwrap();
        let nhwc = Tensor::new(&[1, 1, 2, 2], vec![1_f32, 10.0, 3.0, 20.0]).unwrap();
        for (x, layout) in [(&plain, Layout::Plain), (&nhwc, Layout::Nhwc)] {
            let ctx = EvalContext {
                node: &node,
                opset: 22,
                layout,
                inputs: &[Some(x)],
            };
            let y = GlobalAveragePool.eval(&ctx).unwrap().remove(0);
            assert_eq!(y.as_slice::<f32>().unwrap(), [2.0, 15.0], "{layout:?}");
        }
    }
}

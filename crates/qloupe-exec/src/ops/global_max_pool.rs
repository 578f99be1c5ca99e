//! GlobalMaxPool: the largest element of each channel.

use qloupe_tensor::Tensor;

use super::global_pool::reduce_channels;
use super::pooling::infer_global;
use super::pooling_gradient::globally_largest;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// The largest spatial element of a channel; NaN wins.
#[derive(Debug)]
pub(super) struct GlobalMaxPool;

impl Operator for GlobalMaxPool {
    fn op_type(&self) -> &'static str {
        "GlobalMaxPool"
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
        reduce_channels(ctx, |values| {
            let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
            Ok(values.fold(f32::NEG_INFINITY, larger))
        })
    }
}

impl Differentiable for GlobalMaxPool {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        globally_largest(ctx)
    }
}

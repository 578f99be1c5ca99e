//! GlobalMaxPool: the largest element of each channel.

use qloupe_tensor::Tensor;

use super::global_pool::reduce_channels;
use super::pooling::infer_global;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

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

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        reduce_channels(ctx, |values| {
            let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
            Ok(values.fold(f32::NEG_INFINITY, larger))
        })
    }
}

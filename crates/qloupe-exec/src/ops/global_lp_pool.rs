//! GlobalLpPool: the Lp norm of each channel.

use qloupe_tensor::Tensor;

use super::global_pool::reduce_channels;
use super::lp_pool::lp_norm;
use super::pooling::infer_global;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `(sum of |x|^p over a channel)^(1/p)`.
#[derive(Debug)]
pub(super) struct GlobalLpPool;

impl Operator for GlobalLpPool {
    fn op_type(&self) -> &'static str {
        "GlobalLpPool"
    }

    fn since_version(&self) -> i64 {
        2
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_global(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let p = ctx.int("p", 2);
        reduce_channels(ctx, |values| lp_norm(values, p))
    }
}

//! com.microsoft.QuickGelu: the Gaussian error linear unit by way of a sigmoid.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::swish::swish;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x * sigmoid(alpha * x)`; `alpha` is 1.702 by default.
#[derive(Debug)]
pub(super) struct QuickGelu;

impl Operator for QuickGelu {
    fn op_type(&self) -> &'static str {
        "QuickGelu"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        swish(ctx, ctx.float("alpha", 1.702))
    }
}

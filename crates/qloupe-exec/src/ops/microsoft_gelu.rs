//! com.microsoft.Gelu: the Gaussian error linear unit.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x/2 * (1 + erf(x / sqrt(2)))`
#[derive(Debug)]
pub(super) struct Gelu;

impl Operator for Gelu {
    fn op_type(&self) -> &'static str {
        "Gelu"
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
        super::gelu::Gelu.eval(ctx)
    }
}

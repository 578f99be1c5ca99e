//! Identity: its input.

use qloupe_tensor::Tensor;

use super::movement_gradient::reshaped;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, Value, ValueContext, ValueOperator,
};

/// `y = x`, a value of any kind; shares the elements.
#[derive(Debug)]
pub(super) struct Identity;

impl Operator for Identity {
    fn op_type(&self) -> &'static str {
        "Identity"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl Differentiable for Identity {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

impl ValueOperator for Identity {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }
}

//! Identity: its input.

use qloupe_tensor::Tensor;

use crate::{
    EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Value, ValueContext, ValueOperator,
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

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for Identity {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }
}

//! OptionalGetElement: the value in an optional.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// What an optional holds; an error if it holds nothing.
#[derive(Debug)]
pub(super) struct OptionalGetElement;

impl Operator for OptionalGetElement {
    fn op_type(&self) -> &'static str {
        "OptionalGetElement"
    }

    fn since_version(&self) -> i64 {
        15
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![ctx.require(0)?.clone()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for OptionalGetElement {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        match ctx.require(0)? {
            Value::Absent => Err(OpError::input(
                0,
                "is an empty optional, expected one that holds a value",
            )),
            value => Ok(vec![value.clone()]),
        }
    }
}

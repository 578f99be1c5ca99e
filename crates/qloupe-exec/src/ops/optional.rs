//! Optional: a value that may be absent.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// Its input, or an optional that holds nothing.
#[derive(Debug)]
pub(super) struct Optional;

impl Operator for Optional {
    fn op_type(&self) -> &'static str {
        "Optional"
    }

    fn since_version(&self) -> i64 {
        15
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![ctx.input(0).cloned().unwrap_or_default()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for Optional {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        Ok(vec![ctx.input(0).cloned().unwrap_or(Value::Absent)])
    }
}

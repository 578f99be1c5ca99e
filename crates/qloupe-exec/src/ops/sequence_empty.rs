//! SequenceEmpty: a sequence without items.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// A sequence without items; the dtype of later items is not checked.
#[derive(Debug)]
pub(super) struct SequenceEmpty;

impl Operator for SequenceEmpty {
    fn op_type(&self) -> &'static str {
        "SequenceEmpty"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, _ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::default()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for SequenceEmpty {
    fn eval_values(&self, _ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        Ok(vec![Value::from(Vec::new())])
    }
}

//! SequenceAt: one item of a sequence.

use super::parameters::position;
use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The item at `position`; negative positions count from the end.
#[derive(Debug)]
pub(super) struct SequenceAt;

impl Operator for SequenceAt {
    fn op_type(&self) -> &'static str {
        "SequenceAt"
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

impl ValueOperator for SequenceAt {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let items = ctx.sequence(0)?;
        let at = position(ctx.tensor(1)?, 1, items.len())?;
        Ok(vec![items[at].clone().into()])
    }
}

//! SequenceErase: a sequence with one item less.

use super::parameters::position;
use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The sequence without the item at `position`, the last one where it is absent.
#[derive(Debug)]
pub(super) struct SequenceErase;

impl Operator for SequenceErase {
    fn op_type(&self) -> &'static str {
        "SequenceErase"
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

impl ValueOperator for SequenceErase {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let mut items = ctx.sequence(0)?.to_vec();
        let at = match ctx.input(1) {
            Some(value) => position(value.require_tensor(1)?, 1, items.len())?,
            None => items
                .len()
                .checked_sub(1)
                .ok_or_else(|| OpError::input(0, "is empty, expected an item to erase"))?,
        };
        items.remove(at);
        Ok(vec![items.into()])
    }
}

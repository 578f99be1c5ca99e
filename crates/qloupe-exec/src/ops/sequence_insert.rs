//! SequenceInsert: a sequence with one item more.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};
use qloupe_tensor::Tensor;

use super::parameters::{integers, position};

/// A place to insert at, from 0 to `len`.
fn insertion(tensor: &Tensor, len: usize) -> Result<usize, OpError> {
    let at_end = integers(tensor, 2)?.first().copied() == i64::try_from(len).ok();
    if at_end { Ok(len) } else { position(tensor, 2, len) }
}

/// The sequence with a tensor before `position`, at the end where it is absent.
#[derive(Debug)]
pub(super) struct SequenceInsert;

impl Operator for SequenceInsert {
    fn op_type(&self) -> &'static str {
        "SequenceInsert"
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

impl ValueOperator for SequenceInsert {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let mut items = ctx.sequence(0)?.to_vec();
        let at = match ctx.input(2) {
            // One past the end is a position, too; negative ones count from the end without it.
            Some(value) => insertion(value.require_tensor(2)?, items.len())?,
            None => items.len(),
        };
        items.insert(at, ctx.tensor(1)?.clone());
        Ok(vec![items.into()])
    }
}

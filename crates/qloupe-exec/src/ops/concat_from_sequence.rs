//! ConcatFromSequence: the items of a sequence joined along an axis.

use qloupe_tensor::Tensor;

use super::pieces::{concatenate, stack};
use crate::operator::resolve_axis;
use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The items one after the other along `axis`, a new one with `new_axis`.
#[derive(Debug)]
pub(super) struct ConcatFromSequence;

impl Operator for ConcatFromSequence {
    fn op_type(&self) -> &'static str {
        "ConcatFromSequence"
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

impl ValueOperator for ConcatFromSequence {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let items = ctx.sequence(0)?;
        let rank = items.first().map(Tensor::rank);
        let rank = rank.ok_or_else(|| OpError::input(0, "is an empty sequence, expected items to join"))?;
        let axis = ctx.node.int("axis");
        let axis = axis.ok_or_else(|| OpError::attribute("axis", "absent, expected an integer"))?;
        let joined = if ctx.node.int("new_axis").unwrap_or(0) == 0 {
            concatenate(&items.iter().collect::<Vec<_>>(), resolve_axis(axis, rank)?)?
        } else {
            stack(items, resolve_axis(axis, rank + 1)?)?
        };
        Ok(vec![joined.into()])
    }
}

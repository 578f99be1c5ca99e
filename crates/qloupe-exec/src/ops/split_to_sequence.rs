//! SplitToSequence: pieces of a tensor along an axis, as a sequence.

use qloupe_tensor::Tensor;

use super::parameters::integers;
use super::pieces::{cut, without_axis};
use super::split::sizes;
use crate::operator::resolve_axis;
use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// Pieces of `split` elements (a number: the last may be smaller; a list: those sizes), or slices without the axis.
#[derive(Debug)]
pub(super) struct SplitToSequence;

impl Operator for SplitToSequence {
    fn op_type(&self) -> &'static str {
        "SplitToSequence"
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

impl ValueOperator for SplitToSequence {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let x = ctx.tensor(0)?;
        let axis = resolve_axis(ctx.node.int("axis").unwrap_or(0), x.rank())?;
        let total = x.shape()[axis];
        let Some(split) = ctx.input(1) else {
            let pieces = cut(x, axis, &vec![1; total])?;
            let keeps = ctx.node.int("keepdims").unwrap_or(1) != 0;
            let items = pieces.into_iter().map(|piece| {
                if keeps {
                    Ok(piece)
                } else {
                    without_axis(piece, axis)
                }
            });
            return Ok(vec![items.collect::<Result<Vec<_>, _>>()?.into()]);
        };
        let split = split.require_tensor(1)?;
        let list = integers(split, 1)?;
        let sizes = if split.rank() == 0 {
            equal_sizes(total, &list)?
        } else {
            sizes(total, Some(list), 0)?
        };
        let items: Vec<Tensor> = cut(x, axis, &sizes)?;
        Ok(vec![items.into()])
    }
}

fn equal_sizes(total: usize, split: &[i64]) -> Result<Vec<usize>, OpError> {
    let size = split
        .first()
        .and_then(|&s| usize::try_from(s).ok())
        .filter(|&s| s > 0);
    let size =
        size.ok_or_else(|| OpError::input(1, format!("wrong size, expected at least 1, got {split:?}")))?;
    Ok((0..total.div_ceil(size))
        .map(|i| size.min(total - i * size))
        .collect())
}

//! The index of the largest or smallest element along an axis: what ArgMax and ArgMin share.

use std::cmp::Ordering;

use qloupe_tensor::{DType, Tensor};

use super::elementwise::{NUMBERS, wrong_dtype};
use super::number::{Number, each_number};
use super::reduction::{reduced_dims, widened};
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError};

/// The indices of the elements that compare as `wanted` to all others.
///
/// # Errors
/// A dtype that is not numeric, an axis outside the rank, an empty axis.
pub(super) fn arg_extremum(ctx: &EvalContext<'_>, wanted: Ordering) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let axis = resolve_axis(ctx.int("axis", 0), x.rank())?;
    if x.shape()[axis] == 0 {
        return Err(OpError::input(
            0,
            format!(
                "axis {axis} is empty, expected at least one element, got shape {:?}",
                x.shape()
            ),
        ));
    }
    let around = Around::axes(x.shape(), axis, axis + 1);
    let last = ctx.int("select_last_index", 0) != 0;
    let wide = widened(x)?;
    let indices: Vec<i64> = each_number!(
        wide.dtype(), T => {
            let rows = around.gather(wide.require::<T>()?);
            rows.chunks(around.n).map(|row| arg_of_row(row, wanted, last)).collect()
        },
        else return Err(wrong_dtype(0, NUMBERS, x.dtype()))
    );
    let mut shape = x.shape().to_vec();
    if ctx.int("keepdims", 1) != 0 {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    Ok(vec![Tensor::new(&shape, indices)?])
}

fn arg_of_row<T: Number>(row: &[T], wanted: Ordering, last: bool) -> i64 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        let better = match x.partial_cmp(&row[best]) {
            Some(Ordering::Equal) => last,
            Some(ordering) => ordering == wanted,
            None => x.is_not_a_number() && (last || !row[best].is_not_a_number()),
        };
        if better {
            best = i;
        }
    }
    i64::try_from(best).unwrap_or(i64::MAX)
}

/// The fact of the indices.
///
/// # Errors
/// An axis outside the rank.
pub(super) fn infer_arg_extremum(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let dims = x
        .shape
        .as_ref()
        .map(|shape| {
            let axis = resolve_axis(ctx.node.int("axis").unwrap_or(0), shape.len())?;
            let reduced: Vec<bool> = (0..shape.len()).map(|a| a == axis).collect();
            Ok::<_, OpError>(reduced_dims(shape, &reduced, ctx.node.int("keepdims") != Some(0)))
        })
        .transpose()?;
    Ok(vec![Fact::new(Some(DType::Int64), dims)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_nan() {
        let row = [1.0, 3.0, 3.0, 0.0];
        assert_eq!(arg_of_row(&row, Ordering::Greater, false), 1);
        assert_eq!(arg_of_row(&row, Ordering::Greater, true), 2);
        assert_eq!(arg_of_row(&row, Ordering::Less, false), 3);
        let with_nan = [1.0, f32::NAN, 5.0, f32::NAN];
        assert_eq!(arg_of_row(&with_nan, Ordering::Greater, false), 1);
        assert_eq!(arg_of_row(&with_nan, Ordering::Less, true), 3);
    }
}

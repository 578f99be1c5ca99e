//! TopK: the largest or smallest elements along an axis.

use std::cmp::Ordering;

use qloupe_tensor::{DType, Tensor};

use super::movement::{Run, copy_runs};
use super::ordering::{Order, order_of};
use super::parameters::{integers, open_dim, size};
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// The `k` largest (`largest` 0: smallest) elements along `axis` and their indices; of equal elements the one with the
/// lower index comes first. NaN counts as larger than every number. The output is always sorted.
#[derive(Debug)]
pub(super) struct TopK;

impl Operator for TopK {
    fn op_type(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match &x.shape {
            Some(shape) => {
                let axis = resolve_axis(ctx.node.int("axis").unwrap_or(-1), shape.len())?;
                let attribute = ctx.node.int("k").map(SymDim::known);
                let k = attribute.or_else(|| ctx.elements(1)?.first().cloned());
                let mut dims = shape.clone();
                dims[axis] = k.unwrap_or_else(|| open_dim(ctx, 0, axis));
                Some(dims)
            }
            None => None,
        };
        Ok(vec![
            Fact::new(x.dtype, shape.clone()),
            Fact::new(Some(DType::Int64), shape),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let axis = resolve_axis(ctx.int("axis", -1), x.rank())?;
        let k = match ctx.input(1) {
            Some(k) => integers(k, 1)?.first().copied(),
            None => ctx.node.int("k"),
        };
        let n = x.shape()[axis];
        let k = size(k.ok_or(OpError::MissingInput { idx: 1 })?, 1)?;
        if k > n {
            return Err(OpError::input(
                1,
                format!("k is too large, expected at most {n}, got {k}"),
            ));
        }
        let largest = ctx.int("largest", 1) != 0;
        let order = order_of(x)?;
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let outer: usize = x.shape()[..axis].iter().product();
        let mut shape = x.shape().to_vec();
        shape[axis] = k;
        let mut positions = vec![0; outer * k * inner];
        let mut indices = vec![0; outer * k * inner];
        for o in 0..outer {
            for i in 0..inner {
                let at = |j: usize| (o * n + j) * inner + i;
                for (rank, j) in best(n, k, &order, at, largest).into_iter().enumerate() {
                    let to = (o * k + rank) * inner + i;
                    positions[to] = at(j);
                    indices[to] = j as i64;
                }
            }
        }
        let values = copy_runs(&[x], &shape, positions.into_iter().map(|p| Run::contiguous(p, 1)))?;
        Ok(vec![values, Tensor::new::<i64>(&shape, indices)?])
    }
}

/// The first `k` of `n` elements in order.
fn best(n: usize, k: usize, order: &Order<'_>, at: impl Fn(usize) -> usize, largest: bool) -> Vec<usize> {
    let compare = |a: &usize, b: &usize| -> Ordering {
        let by_value = order(at(*a), at(*b));
        let by_value = if largest { by_value.reverse() } else { by_value };
        by_value.then(a.cmp(b))
    };
    let mut candidates: Vec<usize> = (0..n).collect();
    if k > 0 && k < n {
        candidates.select_nth_unstable_by(k - 1, compare);
    }
    candidates.truncate(k);
    candidates.sort_unstable_by(compare);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        struct Case(bool, usize, &'static [usize]);
        let x = Tensor::vector(vec![2_f32, 5.0, 5.0, 1.0]);
        let order = order_of(&x).unwrap();
        let cases = [
            Case(true, 2, &[1, 2]),
            Case(true, 3, &[1, 2, 0]),
            Case(false, 2, &[3, 0]),
            Case(false, 0, &[]),
        ];
        for Case(largest, k, expected) in cases {
            assert_eq!(best(4, k, &order, |j| j, largest), expected, "{largest} {k}");
        }
    }
}

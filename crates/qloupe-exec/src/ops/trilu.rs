//! Trilu: the upper or the lower triangle of matrices.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs, number};
use super::movement_gradient::moved;
use super::parameters::integers;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// Keeps the elements on and above (`upper` 1) or on and below diagonal `k`; the others become 0.
#[derive(Debug)]
pub(super) struct Trilu;

impl Operator for Trilu {
    fn op_type(&self) -> &'static str {
        "Trilu"
    }

    fn since_version(&self) -> i64 {
        14
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let &[.., rows, columns] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected at least 2, got shape {:?}", x.shape()),
            ));
        };
        let k = match ctx.input(1) {
            Some(k) => integers(k, 1)?.first().copied().unwrap_or(0),
            None => 0,
        };
        let upper = ctx.int("upper", 1) != 0;
        let zero = number(x.dtype(), 0)?;
        // The first column on the upper side of the diagonal (or beyond it, for the lower triangle).
        let boundary = |row: usize| {
            let column = (row as i64).saturating_add(k).saturating_add(i64::from(!upper));
            column.clamp(0, columns as i64) as usize
        };
        let n_rows: usize = x.shape()[..x.rank() - 1].iter().product();
        let runs = (0..n_rows).flat_map(|row| {
            let (start, cut) = (row * columns, boundary(row % rows.max(1)));
            let zeros = |len: usize| Run {
                source: 1,
                start: 0,
                stride: 0,
                len,
            };
            if upper {
                [zeros(cut), Run::contiguous(start + cut, columns - cut)]
            } else {
                [Run::contiguous(start, cut), zeros(columns - cut)]
            }
        });
        Ok(vec![copy_runs(&[x, &zero], x.shape(), runs)?])
    }
}

impl Differentiable for Trilu {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

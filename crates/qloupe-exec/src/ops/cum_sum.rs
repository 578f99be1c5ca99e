//! CumSum: running sums along an axis.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::elementwise::{NUMBERS, widened, wrong_dtype};
use super::number::each_number;
use super::parameters::integers;
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[i] = x[0] + ... + x[i]` along the axis of input 1; without `x[i]` if `exclusive`, from the end if `reverse`.
#[derive(Debug)]
pub(super) struct CumSum;

impl Operator for CumSum {
    fn op_type(&self) -> &'static str {
        "CumSum"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let &[axis] = integers(ctx.require(1)?, 1)?.as_slice() else {
            return Err(OpError::input(
                1,
                format!(
                    "wrong shape, expected one element, got {:?}",
                    ctx.require(1)?.shape()
                ),
            ));
        };
        let axis = resolve_axis(axis, x.rank())?;
        let around = Around::axes(x.shape(), axis, axis + 1);
        let (exclusive, reverse) = (ctx.int("exclusive", 0) != 0, ctx.int("reverse", 0) != 0);
        let wide = widened(ctx, 0, x.dtype())?;
        let sums = each_number!(wide.dtype(), T => {
            let mut rows = around.gather(wide.require::<T>()?);
            for row in rows.chunks_mut(around.n.max(1)) {
                if reverse {
                    accumulate(row.iter_mut().rev(), exclusive);
                } else {
                    accumulate(row.iter_mut(), exclusive);
                }
            }
            Tensor::new(x.shape(), around.scatter(&rows))?
        }, else return Err(wrong_dtype(0, NUMBERS, x.dtype())));
        Ok(vec![cast(&sums, x.dtype())?])
    }
}

fn accumulate<'a, T: super::number::Number>(row: impl Iterator<Item = &'a mut T>, exclusive: bool) {
    let mut sum = T::ZERO;
    for v in row {
        let before = sum;
        sum = sum.plus(*v);
        *v = if exclusive { before } else { sum };
    }
}

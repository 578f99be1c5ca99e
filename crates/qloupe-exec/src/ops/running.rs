//! Running sums and products along an axis: CumSum and CumProd.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::elementwise::{NUMBERS, widened, wrong_dtype};
use super::number::{Number, each_number};
use super::parameters::one_integer;
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{EvalContext, OpError};

/// What accumulates.
pub(super) trait Running {
    /// The accumulator of no elements.
    fn start<T: Number>() -> T;

    /// The accumulator after one more element.
    fn step<T: Number>(acc: T, x: T) -> T;
}

/// `y[i]` accumulates `x[0]` to `x[i]` along the axis of input 1; without `x[i]` if `exclusive`, from the end if `reverse`.
///
/// # Errors
/// An absent input, a dtype that is not numeric, an axis outside the rank.
pub(super) fn run_along<R: Running>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let axis = resolve_axis(one_integer(ctx, 1)?, x.rank())?;
    let around = Around::axes(x.shape(), axis, axis + 1);
    let (exclusive, reverse) = (ctx.int("exclusive", 0) != 0, ctx.int("reverse", 0) != 0);
    let wide = widened(ctx, 0, x.dtype())?;
    let y = each_number!(wide.dtype(), T => {
        let mut rows = around.gather(wide.require::<T>()?);
        for row in rows.chunks_mut(around.n.max(1)) {
            if reverse {
                accumulate::<R, T>(row.iter_mut().rev(), exclusive);
            } else {
                accumulate::<R, T>(row.iter_mut(), exclusive);
            }
        }
        Tensor::new(x.shape(), around.scatter(&rows))?
    }, else return Err(wrong_dtype(0, NUMBERS, x.dtype())));
    Ok(vec![cast(&y, x.dtype())?])
}

fn accumulate<'a, R: Running, T: Number>(row: impl Iterator<Item = &'a mut T>, exclusive: bool) {
    let mut acc = R::start();
    for v in row {
        let before = acc;
        acc = R::step(acc, *v);
        *v = if exclusive { before } else { acc };
    }
}

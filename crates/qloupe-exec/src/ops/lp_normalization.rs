//! LpNormalization: divides by a norm along an axis.

use qloupe_tensor::Tensor;

use super::normalization::{each_row, floats, rounded, sum_of};
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = x / norm`, the norm of order `p` (1 or 2) along `axis`; 0 where the norm is 0.
#[derive(Debug)]
pub(super) struct LpNormalization;

impl Operator for LpNormalization {
    fn op_type(&self) -> &'static str {
        "LpNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let norm = match ctx.int("p", 2) {
            1 => |row: &[f64]| sum_of(row, f64::abs),
            2 => |row: &[f64]| sum_of(row, |v| v * v).sqrt(),
            p => {
                return Err(OpError::attribute(
                    "p",
                    format!("unknown order, expected 1 or 2, got {p}"),
                ));
            }
        };
        let axis = resolve_axis(ctx.int("axis", -1), x.rank())?;
        let around = Around::axes(x.shape(), axis, axis + 1);
        let mut rows = around.gather(&floats(ctx, 0)?);
        each_row(&mut rows, around.n, |_, row| {
            let norm = norm(row);
            let inverse = |v: f64| if norm > 0.0 { v / norm } else { 0.0 };
            row.iter_mut().for_each(|v| *v = inverse(*v));
        });
        Ok(vec![rounded(x.shape(), around.scatter(&rows), x.dtype())?])
    }
}

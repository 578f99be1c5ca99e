//! EyeLike: ones on a diagonal.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs, number};
use super::parameters::{dtype_attribute, require_rank};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// A matrix of the shape of `x` with ones on diagonal `k` and zeros elsewhere.
#[derive(Debug)]
pub(super) struct EyeLike;

impl Operator for EyeLike {
    fn op_type(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![Fact::new(
            dtype_attribute(ctx.node, "dtype")?.or(x.dtype),
            x.shape.clone(),
        )])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 2)?;
        let dtype = dtype_attribute(ctx.node, "dtype")?.unwrap_or_else(|| x.dtype());
        let (zero, one) = (number(dtype, 0)?, number(dtype, 1)?);
        let (rows, columns) = (x.shape()[0] as i64, x.shape()[1] as i64);
        let diagonal = ctx.int("k", 0).clamp(-rows, columns);
        let runs = (0..rows).flat_map(|row| {
            (0..columns).map(move |column| Run {
                source: usize::from(column - row == diagonal),
                ..Run::contiguous(0, 1)
            })
        });
        Ok(vec![copy_runs(&[&zero, &one], x.shape(), runs)?])
    }
}

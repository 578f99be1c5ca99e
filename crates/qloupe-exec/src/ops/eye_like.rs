//! EyeLike: ones on a diagonal.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::movement::{Run, copy_runs, number};
use super::parameters::require_rank;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// A matrix of the shape of `x` with ones on diagonal `k` and zeros elsewhere.
#[derive(Debug)]
pub(super) struct EyeLike;

fn dtype(node: &Node) -> Result<Option<DType>, OpError> {
    let Some(number) = node.int("dtype") else {
        return Ok(None);
    };
    i32::try_from(number)
        .ok()
        .and_then(DType::from_onnx)
        .map(Some)
        .ok_or_else(|| {
            OpError::attribute(
                "dtype",
                format!("unknown, expected the number of a dtype, got {number}"),
            )
        })
}

impl Operator for EyeLike {
    fn op_type(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![Fact::new(dtype(ctx.node)?.or(x.dtype), x.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 2)?;
        let dtype = dtype(ctx.node)?.unwrap_or_else(|| x.dtype());
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

//! GatherND: slices at coordinates.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::movement_gradient::moved;
use super::parameters::size;
use super::scatter::slice_positions;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y[b.., i..] = data[b.., indices[b.., i..]..]`: the last axis of `indices` holds coordinates into the axes of `data`
/// that follow the `batch_dims`.
#[derive(Debug)]
pub(super) struct GatherND;

impl Operator for GatherND {
    fn op_type(&self) -> &'static str {
        "GatherND"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let data = ctx.require(0)?;
        let batch = size(ctx.node.int("batch_dims").unwrap_or(0), 1)?;
        let shape = match (&data.shape, ctx.shape(1).and_then(<[_]>::split_last)) {
            (Some(shape), Some((last, leading))) => last.as_size().and_then(|n| {
                let rest = shape.get(batch.checked_add(n)?..)?;
                Some([leading, rest].concat())
            }),
            _ => None,
        };
        Ok(vec![Fact::new(data.dtype, shape)])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (ctx.require(0)?, ctx.require(1)?);
        let batch = size(ctx.int("batch_dims", 0), 1)?;
        let slices = slice_positions(data.shape(), indices, batch)?;
        let leading = &indices.shape()[..indices.rank() - 1];
        let shape = [leading, &data.shape()[slices.first_inner_axis..]].concat();
        let runs = slices.starts.iter().map(|&at| Run::contiguous(at, slices.len));
        Ok(vec![copy_runs(&[data], &shape, runs)?])
    }
}

impl Differentiable for GatherND {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

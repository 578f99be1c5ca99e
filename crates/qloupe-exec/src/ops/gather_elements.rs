//! GatherElements: one element per index.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::movement_gradient::moved;
use super::scatter::element_positions;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y[i][j] = data[indices[i][j]][j]` for axis 0, likewise for the others.
#[derive(Debug)]
pub(super) struct GatherElements;

impl Operator for GatherElements {
    fn op_type(&self) -> &'static str {
        "GatherElements"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let data = ctx.require(0)?;
        let indices = ctx.require(1)?;
        Ok(vec![Fact::new(data.dtype, indices.shape.clone())])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (ctx.require(0)?, ctx.require(1)?);
        let positions = element_positions(data.shape(), indices, ctx.int("axis", 0))?;
        let runs = positions.into_iter().map(|at| Run::contiguous(at, 1));
        Ok(vec![copy_runs(&[data], indices.shape(), runs)?])
    }
}

impl Differentiable for GatherElements {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

//! Flatten: a matrix of the leading and the trailing axes.

use qloupe_tensor::Tensor;

use super::movement_gradient::reshaped;
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// `[product of the axes before axis, product of the others]`.
#[derive(Debug)]
pub(super) struct Flatten;

/// The axis; unlike elsewhere it may equal the rank.
fn split_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    if usize::try_from(axis).ok() == Some(rank) {
        return Ok(rank);
    }
    resolve_axis(axis, rank)
}

impl Operator for Flatten {
    fn op_type(&self) -> &'static str {
        "Flatten"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let axis = split_axis(ctx.node.int("axis").unwrap_or(1), shape.len())?;
        let product = |dims: &[SymDim]| dims.iter().fold(SymDim::known(1), |p, d| p.times(d));
        let (outer, inner) = shape.split_at(axis);
        Ok(vec![Fact::new(
            x.dtype,
            Some(vec![product(outer), product(inner)]),
        )])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let axis = split_axis(ctx.int("axis", 1), x.rank())?;
        let (outer, inner) = x.shape().split_at(axis);
        let shape = [outer.iter().product(), inner.iter().product()];
        Ok(vec![x.clone().reshape(&shape)?])
    }
}

impl Differentiable for Flatten {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

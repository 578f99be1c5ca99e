//! Squeeze: dimensions of 1 removed.

use qloupe_tensor::Tensor;

use super::movement_gradient::reshaped;
use super::parameters::{KnownList, elements_fact, integer_list, resolve_axes};
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// Removes `axes`, all of size 1; without `axes`, every dimension of 1.
#[derive(Debug)]
pub(super) struct Squeeze;

impl Operator for Squeeze {
    fn op_type(&self) -> &'static str {
        "Squeeze"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let list = KnownList::new(ctx, 1, "axes");
        let removed: Vec<usize> = match (&list, list.numbers()) {
            (_, Some(axes)) => resolve_axes(&axes, shape.len())?,
            (KnownList::Absent, None) if shape.iter().all(|d| d.as_known().is_some()) => (0..shape.len())
                .filter(|&axis| shape[axis].as_known() == Some(1))
                .collect(),
            _ => return Ok(vec![Fact::new(x.dtype, None)]),
        };
        let kept = (0..shape.len()).filter(|axis| !removed.contains(axis));
        let dims = kept.map(|axis| shape[axis].clone()).collect();
        Ok(vec![match &x.elements {
            Some(elements) => elements_fact(x.dtype, dims, elements.clone()),
            None => Fact::new(x.dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let removed = match integer_list(ctx, 1, "axes")? {
            Some(axes) => resolve_axes(&axes, x.rank())?,
            None => (0..x.rank()).filter(|&axis| x.shape()[axis] == 1).collect(),
        };
        if let Some(&axis) = removed.iter().find(|&&axis| x.shape()[axis] != 1) {
            return Err(OpError::input(
                0,
                format!(
                    "axis {axis} cannot be squeezed, expected size 1, got {:?}",
                    x.shape()
                ),
            ));
        }
        let kept = (0..x.rank()).filter(|axis| !removed.contains(axis));
        let shape: Vec<usize> = kept.map(|axis| x.shape()[axis]).collect();
        Ok(vec![x.clone().reshape(&shape)?])
    }
}

impl Differentiable for Squeeze {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

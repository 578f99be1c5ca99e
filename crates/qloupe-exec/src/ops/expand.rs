//! Expand: a tensor repeated to a broadcast shape.

use qloupe_tensor::Tensor;

use super::elementwise_gradient::sum_to;
use super::movement::{View, strides_of};
use super::parameters::{elements_fact, integers, open_dim, size};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// `x` broadcast with `shape`: a dimension of 1 on either side takes the other one.
#[derive(Debug)]
pub(super) struct Expand;

impl Operator for Expand {
    fn op_type(&self) -> &'static str {
        "Expand"
    }

    fn since_version(&self) -> i64 {
        8
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        ctx.require(1)?;
        let (Some(shape), Some(target)) = (&x.shape, ctx.elements(1)) else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let rank = shape.len().max(target.len());
        let one = SymDim::known(1);
        let at = |dims: &[SymDim], axis: usize| {
            let missing = rank - dims.len();
            axis.checked_sub(missing).map_or(one.clone(), |i| dims[i].clone())
        };
        let join = |axis: usize| {
            let (a, b) = (at(shape, axis), at(target, axis));
            match (a.as_known(), b.as_known()) {
                (Some(1), _) => b,
                (_, Some(1)) => a,
                (Some(_), None) => a,
                (None, Some(_)) => b,
                _ if a == b => a,
                _ => open_dim(ctx, 0, axis),
            }
        };
        let dims: Vec<SymDim> = (0..rank).map(join).collect();
        let repeated = match (&x.elements, dims.as_slice()) {
            (Some(elements), [n]) if elements.len() == 1 => {
                let n = n.as_size().filter(|&n| n <= 64);
                n.map(|n| vec![elements[0].clone(); n])
            }
            _ => None,
        };
        Ok(vec![match repeated {
            Some(elements) => elements_fact(x.dtype, dims, elements),
            None => Fact::new(x.dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let target = integers(ctx.require(1)?, 1)?
            .into_iter()
            .map(|d| size(d, 1))
            .collect::<Result<Vec<usize>, _>>()?;
        expanded(x, &target).map(|y| vec![y])
    }
}

impl Differentiable for Expand {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let shape = ctx.call.require(0)?.shape();
        Ok(Pullback::of_first(move |gradient| sum_to(gradient, shape)))
    }
}

/// `x` broadcast with a shape.
///
/// # Errors
/// A shape that does not broadcast.
pub(super) fn expanded(x: &Tensor, target: &[usize]) -> Result<Tensor, OpError> {
    let rank = x.rank().max(target.len());
    let pad = |shape: &[usize]| [vec![1; rank - shape.len()].as_slice(), shape].concat();
    let (from, to) = (pad(x.shape()), pad(target));
    let mut shape = Vec::with_capacity(rank);
    for (&a, &b) in from.iter().zip(&to) {
        shape.push(match (a, b) {
            (1, other) | (other, 1) => other,
            _ if a == b => a,
            _ => {
                return Err(OpError::input(
                    1,
                    format!(
                        "cannot be broadcast, expected a shape for {:?}, got {target:?}",
                        x.shape()
                    ),
                ));
            }
        });
    }
    let strides = strides_of(&from);
    let repeat = |axis: usize| {
        if from[axis] == 1 {
            0
        } else {
            strides[axis] as isize
        }
    };
    let view = View::new(0, &shape, (0..rank).map(repeat).collect());
    view.copy(x, &shape)
}

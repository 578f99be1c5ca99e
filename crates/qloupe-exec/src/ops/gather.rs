//! Gather: slices of an axis, by index.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::movement_gradient::moved;
use super::parameters::{elements_fact, integers, resolve_index};
use crate::operator::resolve_axis;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y[.., i.., ..] = data[.., indices[i..], ..]` along `axis`; negative indices count from the end.
#[derive(Debug)]
pub(super) struct Gather;

impl Operator for Gather {
    fn op_type(&self) -> &'static str {
        "Gather"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let data = ctx.require(0)?;
        let indices = ctx.require(1)?;
        let (Some(shape), Some(index_shape)) = (&data.shape, &indices.shape) else {
            return Ok(vec![Fact::new(data.dtype, None)]);
        };
        let axis = resolve_axis(ctx.node.int("axis").unwrap_or(0), shape.len())?;
        let dims = [&shape[..axis], index_shape, &shape[axis + 1..]].concat();
        let picked = match (&data.elements, ctx.known_elements(1)) {
            (Some(list), Some(indices)) if shape.len() == 1 => {
                let pick = |&i: &i64| Ok(list[resolve_index(i, list.len(), 1)?].clone());
                Some(indices.iter().map(pick).collect::<Result<Vec<_>, OpError>>()?)
            }
            _ => None,
        };
        Ok(vec![match picked {
            Some(elements) => elements_fact(data.dtype, dims, elements),
            None => Fact::new(data.dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (ctx.require(0)?, ctx.require(1)?);
        let axis = resolve_axis(ctx.int("axis", 0), data.rank())?;
        let size = data.shape()[axis];
        let rows = integers(indices, 1)?
            .into_iter()
            .map(|i| resolve_index(i, size, 1))
            .collect::<Result<Vec<usize>, _>>()?;
        let shape = [&data.shape()[..axis], indices.shape(), &data.shape()[axis + 1..]].concat();
        let outer: usize = data.shape()[..axis].iter().product();
        let inner: usize = data.shape()[axis + 1..].iter().product();
        let runs = (0..outer).flat_map(|o| {
            rows.iter()
                .map(move |row| Run::contiguous((o * size + row) * inner, inner))
        });
        Ok(vec![copy_runs(&[data], &shape, runs)?])
    }
}

impl Differentiable for Gather {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

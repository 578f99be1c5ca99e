//! Unsqueeze: dimensions of 1 inserted.

use qloupe_tensor::Tensor;

use super::movement_gradient::reshaped;
use super::parameters::{KnownList, elements_fact, integer_list, resolve_axes};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// Inserts dimensions of 1 so that they are `axes` of the output.
#[derive(Debug)]
pub(super) struct Unsqueeze;

fn insert<T: Clone>(shape: &[T], axes: &[i64], one: &T) -> Result<Vec<T>, OpError> {
    let rank = shape.len() + axes.len();
    let inserted = resolve_axes(axes, rank)?;
    let mut old = shape.iter();
    Ok((0..rank)
        .filter_map(|axis| {
            if inserted.contains(&axis) {
                Some(one.clone())
            } else {
                old.next().cloned()
            }
        })
        .collect())
}

impl Operator for Unsqueeze {
    fn op_type(&self) -> &'static str {
        "Unsqueeze"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let axes = KnownList::new(ctx, 1, "axes").numbers();
        let (Some(shape), Some(axes)) = (&x.shape, axes) else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let dims = insert(shape, &axes, &SymDim::known(1))?;
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
        let axes = integer_list(ctx, 1, "axes")?
            .ok_or_else(|| OpError::attribute("axes", "absent, expected a list of integers"))?;
        let shape = insert(x.shape(), &axes, &1)?;
        Ok(vec![x.clone().reshape(&shape)?])
    }
}

impl Differentiable for Unsqueeze {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_in_the_output() {
        assert_eq!(insert(&[3, 4], &[-1, 0], &1), Ok(vec![1, 3, 4, 1]));
        assert_eq!(
            insert(&[3, 4], &[3], &1).unwrap_err().to_string(),
            "attribute \"axis\": outside the rank, expected [-3, 3), got 3"
        );
    }
}

//! Tile: a tensor repeated along its axes.

use qloupe_tensor::Tensor;

use super::elementwise_gradient::sum_to;
use super::movement::{View, strides_of};
use super::parameters::{integers, size};
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `x` repeated `repeats[i]` times along axis `i`.
#[derive(Debug)]
pub(super) struct Tile;

impl Operator for Tile {
    fn op_type(&self) -> &'static str {
        "Tile"
    }

    fn since_version(&self) -> i64 {
        6
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        ctx.require(1)?;
        let shape = match (&x.shape, ctx.elements(1)) {
            (Some(shape), Some(repeats)) if shape.len() == repeats.len() => {
                Some(shape.iter().zip(repeats).map(|(d, r)| d.times(r)).collect())
            }
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let repeats = integers(ctx.require(1)?, 1)?
            .into_iter()
            .map(|r| size(r, 1))
            .collect::<Result<Vec<usize>, _>>()?;
        if repeats.len() != x.rank() {
            return Err(OpError::input(
                1,
                format!(
                    "wrong length, expected {} repeats, got {}",
                    x.rank(),
                    repeats.len()
                ),
            ));
        }
        let strides = strides_of(x.shape());
        let mut shape = Vec::with_capacity(x.rank());
        let (mut view_shape, mut view_strides) = (Vec::new(), Vec::new());
        for ((&dim, &repeat), &stride) in x.shape().iter().zip(&repeats).zip(&strides) {
            shape.push(dim.saturating_mul(repeat));
            view_shape.extend([repeat, dim]);
            view_strides.extend([0, stride as isize]);
        }
        Ok(vec![View::new(0, &view_shape, view_strides).copy(x, &shape)?])
    }
}

impl Differentiable for Tile {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let shape = ctx.call.require(0)?.shape();
        Ok(Pullback::of_first(move |gradient| {
            let (mut apart, mut kept) = (Vec::new(), Vec::new());
            for (&dim, &total) in shape.iter().zip(gradient.shape()) {
                apart.extend([total / dim.max(1), dim]);
                kept.extend([1, dim]);
            }
            Ok(sum_to(gradient.reshape(&apart)?, &kept)?.reshape(shape)?)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;
    use qloupe_ir::Node;

    #[test]
    fn rows_and_columns_repeat() {
        let x = Tensor::new(&[2, 2], vec![1_u8, 2, 3, 4]).unwrap();
        let repeats = Tensor::vector(vec![2_i64, 2]);
        let node = Node::default();
        let ctx = EvalContext {
            node: &node,
            opset: 13,
            layout: Layout::Plain,
            inputs: &[Some(&x), Some(&repeats)],
        };
        let y = Tile.eval(&ctx).unwrap().remove(0);
        assert_eq!(y.shape(), [4, 4]);
        assert_eq!(y.as_slice::<u8>().unwrap()[..8], [1, 2, 1, 2, 3, 4, 3, 4]);
    }
}

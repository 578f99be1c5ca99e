//! Split: pieces of a tensor along an axis.

use qloupe_tensor::Tensor;

use super::parameters::{KnownList, integer_list, open_dim, size};
use super::pieces::concatenate;
use super::pieces::cut;
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// Pieces along `axis`: sizes from `split`, or `num_outputs` equal pieces of which the last may be smaller.
#[derive(Debug)]
pub(super) struct Split;

/// Sizes of the pieces of an axis of `total` elements.
pub(super) fn sizes(total: usize, split: Option<Vec<i64>>, n_outputs: usize) -> Result<Vec<usize>, OpError> {
    let Some(split) = split else {
        let chunk = total.div_ceil(n_outputs.max(1));
        let size_of = |i: usize| chunk.min(total.saturating_sub(i * chunk));
        return Ok((0..n_outputs).map(size_of).collect());
    };
    let sizes = split
        .iter()
        .map(|&s| size(s, 1))
        .collect::<Result<Vec<usize>, _>>()?;
    let sum = sizes.iter().try_fold(0_usize, |a, &b| a.checked_add(b));
    if sum == Some(total) {
        Ok(sizes)
    } else {
        Err(OpError::input(
            1,
            format!("sizes do not add up, expected a sum of {total}, got {split:?}"),
        ))
    }
}

impl Operator for Split {
    fn op_type(&self) -> &'static str {
        "Split"
    }

    fn since_version(&self) -> i64 {
        2
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let n_outputs = ctx.node.outputs.len();
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None); n_outputs]);
        };
        let axis = resolve_axis(ctx.node.int("axis").unwrap_or(0), shape.len())?;
        let dim = &shape[axis];
        let pieces: Vec<SymDim> = match (KnownList::new(ctx, 1, "split"), dim.as_size()) {
            (KnownList::Known(list), _) => list,
            (KnownList::Absent, Some(total)) => sizes(total, None, n_outputs)?
                .into_iter()
                .map(SymDim::from)
                .collect(),
            (KnownList::Absent, None) if ctx.opset < 18 => {
                vec![dim.floor_div(&SymDim::from(n_outputs)); n_outputs]
            }
            _ => (0..n_outputs).map(|i| open_dim(ctx, i, axis)).collect(),
        };
        let fact = |piece: SymDim| {
            let mut dims = shape.clone();
            dims[axis] = piece;
            Fact::new(x.dtype, Some(dims))
        };
        Ok(pieces.into_iter().map(fact).collect())
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let axis = ctx.axis(ctx.int("axis", 0), x.rank())?;
        let total = x.shape()[axis];
        let split = integer_list(ctx, 1, "split")?;
        let sizes = sizes(total, split, ctx.node.outputs.len())?;
        cut(x, axis, &sizes)
    }
}

impl Differentiable for Split {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let shape = ctx.call.require(0)?.shape();
        let axis = ctx.call.axis(ctx.call.int("axis", 0), shape.len())?;
        let split = integer_list(&ctx.call, 1, "split")?;
        let sizes = sizes(shape[axis], split, ctx.call.node.outputs.len())?;
        Ok(Pullback::new(move |gradients| {
            let mut pieces = Vec::with_capacity(sizes.len());
            for (gradient, &size) in gradients.into_iter().zip(&sizes) {
                pieces.push(match gradient {
                    Some(gradient) => gradient,
                    None => {
                        let mut piece = shape.to_vec();
                        piece[axis] = size;
                        Tensor::new(&piece, vec![0.0_f32; piece.iter().product()])?
                    }
                });
            }
            Ok(vec![Some(concatenate(&pieces.iter().collect::<Vec<_>>(), axis)?)])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_given_or_equal() {
        assert_eq!(sizes(7, None, 3), Ok(vec![3, 3, 1]));
        assert_eq!(sizes(7, Some(vec![2, 5]), 2), Ok(vec![2, 5]));
        assert_eq!(
            sizes(7, Some(vec![2, 4]), 2).unwrap_err().to_string(),
            "input 1: sizes do not add up, expected a sum of 7, got [2, 4]"
        );
    }
}

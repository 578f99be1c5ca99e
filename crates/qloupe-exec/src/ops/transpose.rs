//! Transpose: axes in another order.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::movement::View;
use super::movement_gradient::permuted;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// Axis `i` of the output is axis `perm[i]` of the input; without `perm` the axes are reversed.
#[derive(Debug)]
pub(super) struct Transpose;

fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, OpError> {
    let Some(perm) = node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    let axes: Vec<usize> = perm.iter().filter_map(|&a| usize::try_from(a).ok()).collect();
    if perm.len() == rank && (0..rank).all(|axis| axes.contains(&axis)) {
        return Ok(axes);
    }
    Err(OpError::attribute(
        "perm",
        format!("not a permutation, expected the axes 0 to {rank} (exclusive), got {perm:?}"),
    ))
}

impl Operator for Transpose {
    fn op_type(&self) -> &'static str {
        "Transpose"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match &x.shape {
            Some(shape) => {
                let perm = permutation(ctx.node, shape.len())?;
                Some(perm.iter().map(|&axis| shape[axis].clone()).collect())
            }
            None => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let perm = permutation(ctx.node, x.rank())?;
        let shape: Vec<usize> = perm.iter().map(|&axis| x.shape()[axis]).collect();
        Ok(vec![View::transposed(x.shape(), &perm).copy(x, &shape)?])
    }
}

impl Differentiable for Transpose {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let rank = ctx.call.require(0)?.rank();
        Ok(permuted(&permutation(ctx.call.node, rank)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qloupe_ir::AttributeValue;

    #[test]
    fn a_wrong_permutation_is_refused() {
        let node = Node::default().with_attribute("perm", AttributeValue::Ints(vec![0, 0]));
        assert_eq!(
            permutation(&node, 2).unwrap_err().to_string(),
            "attribute \"perm\": not a permutation, expected the axes 0 to 2 (exclusive), got [0, 0]"
        );
    }
}

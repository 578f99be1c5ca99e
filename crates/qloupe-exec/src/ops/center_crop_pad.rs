//! CenterCropPad: axes cropped or padded around their middle.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::axis_maps::{require_room, runs};
use super::movement::{copy_runs, number};
use super::parameters::{integers, open_dim, resolve_axes, size};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// Crops or pads with 0 each of `axes` to the size in `shape`; of an odd difference the larger half is at the end.
#[derive(Debug)]
pub(super) struct CenterCropPad;

fn axes_of(node: &Node, rank: usize) -> Result<Vec<usize>, OpError> {
    match node.ints("axes") {
        Some(axes) => resolve_axes(axes, rank),
        None => Ok((0..rank).collect()),
    }
}

/// The input index of each output index; `None` is padding.
fn sources(input: usize, output: usize) -> Vec<Option<usize>> {
    let crop = input.saturating_sub(output) / 2;
    let border = output.saturating_sub(input) / 2;
    (0..output)
        .map(|i| (i + crop).checked_sub(border).filter(|&s| s < input))
        .collect()
}

impl Operator for CenterCropPad {
    fn op_type(&self) -> &'static str {
        "CenterCropPad"
    }

    fn since_version(&self) -> i64 {
        18
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let mut dims = shape.clone();
        for (i, axis) in axes_of(ctx.node, shape.len())?.into_iter().enumerate() {
            let given = ctx.elements(1).and_then(|e| e.get(i).cloned());
            dims[axis] = given.unwrap_or_else(|| open_dim(ctx, 0, axis));
        }
        Ok(vec![Fact::new(x.dtype, Some(dims))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let sizes = integers(ctx.require(1)?, 1)?;
        let axes = axes_of(ctx.node, x.rank())?;
        if sizes.len() != axes.len() {
            return Err(OpError::input(
                1,
                format!(
                    "does not fit the axes, expected {} sizes, got {}",
                    axes.len(),
                    sizes.len()
                ),
            ));
        }
        let mut shape = x.shape().to_vec();
        for (&axis, &output) in axes.iter().zip(&sizes) {
            shape[axis] = size(output, 1)?;
        }
        require_room(&shape)?;
        let maps: Vec<Vec<Option<usize>>> = x
            .shape()
            .iter()
            .zip(&shape)
            .map(|(&input, &output)| sources(input, output))
            .collect();
        let zero = number(x.dtype(), 0)?;
        Ok(vec![copy_runs(&[x, &zero], &shape, runs(x.shape(), &maps))?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_half_is_at_the_end() {
        assert_eq!(sources(5, 2), [Some(1), Some(2)]);
        assert_eq!(sources(1, 4), [None, Some(0), None, None]);
    }
}

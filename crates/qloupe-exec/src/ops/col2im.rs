//! Col2Im: columns of patches added up to images.

use qloupe_tensor::{Tensor, n_elements};

use super::float_tensor::{from_float32, to_float32};
use super::movement::{count, repeated, strides_of};
use super::parameters::{integers, require_rank, size};
use super::scatter::advance;
use super::window::sizes;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `[n, c * block, patches]` to `[n, c, image..]`: each column is a block of `block_shape` that is added to its place.
#[derive(Debug)]
pub(super) struct Col2Im;

impl Operator for Col2Im {
    fn op_type(&self) -> &'static str {
        "Col2Im"
    }

    fn since_version(&self) -> i64 {
        18
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match (x.shape.as_deref(), ctx.elements(1), ctx.elements(2)) {
            (Some([n, channels, _]), Some(image), Some(block)) => {
                let block = block.iter().fold(SymDim::known(1), |p, d| p.times(d));
                Some([&[n.clone(), channels.floor_div(&block)], image].concat())
            }
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 3)?;
        let dims = |idx: usize| -> Result<Vec<usize>, OpError> {
            integers(ctx.require(idx)?, idx)?
                .into_iter()
                .map(|d| size(d, idx))
                .collect()
        };
        let (image, block) = (dims(1)?, dims(2)?);
        let rank = image.len();
        let strides = sizes(ctx.node, "strides", rank, 1, 1)?;
        let dilations = sizes(ctx.node, "dilations", rank, 1, 1)?;
        let pads = sizes(ctx.node, "pads", 2 * rank, 0, 0)?;
        let patches: Option<Vec<usize>> = (0..rank)
            .map(|axis| {
                let extent = (block.get(axis)?.checked_sub(1)?)
                    .checked_mul(dilations[axis])?
                    .checked_add(1)?;
                let padded = image[axis].checked_add(pads[axis] + pads[rank + axis])?;
                Some(padded.checked_sub(extent)? / strides[axis] + 1)
            })
            .collect();
        let block_size = count(&block)?;
        let patches = patches
            .filter(|p| {
                block.len() == rank
                    && x.shape()[1].is_multiple_of(block_size)
                    && n_elements(p) == Some(x.shape()[2])
            })
            .ok_or_else(|| {
                OpError::input(
                    0,
                    format!(
                        "does not fit, expected blocks of {block:?} in an image of {image:?}, got shape {:?}",
                        x.shape()
                    ),
                )
            })?;
        let (n, c) = (x.shape()[0], x.shape()[1] / block_size);
        let (pixels, columns) = (count(&image)?, x.shape()[2]);
        let image_strides = strides_of(&image);
        let values = to_float32(x, 0)?;
        let mut y = repeated(0.0, &[n, c, pixels])?;
        for plane in 0..n * c {
            let mut tap = vec![0; rank];
            for tap_idx in 0..block_size {
                let mut patch = vec![0; rank];
                for column in 0..columns {
                    let pixel: Option<usize> = (0..rank)
                        .map(|axis| {
                            let at = patch[axis] * strides[axis] + tap[axis] * dilations[axis];
                            let at = at.checked_sub(pads[axis]).filter(|&p| p < image[axis])?;
                            Some(at * image_strides[axis])
                        })
                        .sum();
                    if let Some(pixel) = pixel {
                        y[plane * pixels + pixel] +=
                            values[(plane * block_size + tap_idx) * columns + column];
                    }
                    advance(&mut patch, &patches);
                }
                advance(&mut tap, &block);
            }
        }
        Ok(vec![from_float32(
            x.dtype(),
            &[&[n, c], image.as_slice()].concat(),
            y,
        )?])
    }
}

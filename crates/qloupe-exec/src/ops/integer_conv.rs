//! The exact sums of a convolution of integers: what ConvInteger and QLinearConv share.

use qloupe_tensor::DType;

use super::parameters::open_dim;
use super::quant_parameters::centered;
use super::rows::for_each_row;
use super::window::{Applied, Window, spatial};
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// Which inputs of the node hold what.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvInputs {
    /// The zero point of x, input 0.
    pub(super) x_zero_point: usize,
    /// The weight.
    pub(super) weight: usize,
    /// The zero point of the weight.
    pub(super) weight_zero_point: usize,
}

/// `sum of (x - x_zero_point) * (w - w_zero_point)`, padded with `x_zero_point`; and the shape of the result.
///
/// # Errors
/// Shapes, groups or zero points that do not fit.
pub(super) fn convolve(ctx: &EvalContext<'_>, inputs: ConvInputs) -> Result<(Vec<i64>, Vec<usize>), OpError> {
    let (x_tensor, w_tensor) = (ctx.require(0)?, ctx.require(inputs.weight)?);
    let (x_shape, w_shape) = (x_tensor.shape(), w_tensor.shape());
    let (&[n, ic, ref input @ ..], &[oc, per_group, ref kernel @ ..]) = (x_shape, w_shape) else {
        return Err(OpError::input(
            0,
            format!("wrong rank, expected at least 3, got {}", x_shape.len()),
        ));
    };
    let group = usize::try_from(ctx.int("group", 1)).unwrap_or(0);
    if group == 0 || oc % group != 0 || ic != per_group * group || input.len() != kernel.len() {
        return Err(OpError::input(
            inputs.weight,
            format!("does not fit x of shape {x_shape:?} in {group} groups, got shape {w_shape:?}"),
        ));
    }
    let window = Window::new(ctx.node, kernel.len(), Some(kernel))?;
    let applied = window.apply(input)?;
    let x = centered(ctx, 0, inputs.x_zero_point, x_shape.len())?;
    let w = centered(ctx, inputs.weight, inputs.weight_zero_point, 0)?;
    let (pixels, taps): (usize, usize) = (applied.output.iter().product(), kernel.iter().product());
    let image: usize = input.iter().product();
    let mut sums = vec![0; n * oc * pixels];
    for_each_row(
        &mut sums,
        pixels,
        n * oc * pixels * per_group * taps,
        &|row, sums| {
            let (sample, o) = (row / oc, row % oc);
            let first_channel = sample * ic + o / (oc / group) * per_group;
            for (pixel, sum) in sums.iter_mut().enumerate() {
                for tap in 0..taps {
                    let Some(at) = source(&window, &applied, input, pixel, tap) else {
                        continue;
                    };
                    for c in 0..per_group {
                        *sum += x[(first_channel + c) * image + at] * w[(o * per_group + c) * taps + tap];
                    }
                }
            }
        },
    );
    Ok((sums, [&[n, oc], applied.output.as_slice()].concat()))
}

/// Where a tap of the kernel reads for an output pixel; `None` in the padding.
fn source(window: &Window, applied: &Applied, input: &[usize], pixel: usize, tap: usize) -> Option<usize> {
    let (mut pixel, mut tap, mut at, mut stride) = (pixel, tap, 0, 1);
    for axis in (0..input.len()).rev() {
        let (output, kernel) = (applied.output[axis], window.kernel[axis]);
        let position = pixel % output * window.strides[axis] + tap % kernel * window.dilations[axis];
        let position = position
            .checked_sub(applied.pads[axis].0)
            .filter(|&p| p < input[axis])?;
        at += position * stride;
        stride *= input[axis];
        pixel /= output;
        tap /= kernel;
    }
    Some(at)
}

/// The fact of a convolution of integers.
///
/// # Errors
/// A window that does not fit the input.
pub(super) fn infer_conv(
    ctx: &InferContext<'_>,
    weight: usize,
    dtype: Option<DType>,
) -> Result<Vec<Fact>, OpError> {
    let (Some(shape), Some(w_shape)) = (&ctx.require(0)?.shape, &ctx.require(weight)?.shape) else {
        return Ok(vec![Fact::new(dtype, None)]);
    };
    let input = spatial(shape)?;
    let kernel: Option<Vec<usize>> = spatial(w_shape)?.iter().map(SymDim::as_size).collect();
    let open = |axis: usize| open_dim(ctx, 0, axis + 2);
    let output = match kernel {
        Some(kernel) if kernel.len() == input.len() => {
            Window::new(ctx.node, input.len(), Some(&kernel))?.infer(input, open)?
        }
        _ => (0..input.len()).map(open).collect(),
    };
    let dims = [&[shape[0].clone(), w_shape[0].clone()], output.as_slice()].concat();
    Ok(vec![Fact::new(dtype, Some(dims))])
}

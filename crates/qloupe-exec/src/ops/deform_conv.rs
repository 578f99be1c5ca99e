//! DeformConv: a convolution whose taps are moved by offsets that are computed.

use qloupe_kernels::matmul_f32;
use qloupe_tensor::Tensor;

use super::conv::{group_of, wrong_weight};
use super::float_tensor::{from_float32, to_float32};
use super::movement::repeated;
use super::parameters::require_rank;
use super::rows::for_each_row;
use super::window::{Applied, Window};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[n, o, i, j] = b[o] + sum over c, kh, kw of w[o, c, kh, kw] * mask * x[n, c, p]`, where `p` is the place of the tap
/// plus its offset, interpolated linearly; pixels outside are 0. Channels share offsets and masks by `offset_group`.
///
/// # Shapes
/// x: `[N, C, H, W]`; w: `[O, C / group, kH, kW]`; offset: `[N, offset_group * kH * kW * 2, oH, oW]`, height before width;
/// b: `[O]`; mask: `[N, offset_group * kH * kW, oH, oW]`.
/// # Numerics
/// Each output is one chain of fused multiply-adds in the order (c, kh, kw); the bias is added at the end.
/// # Errors
/// Other than two spatial axes.
#[derive(Debug)]
pub(super) struct DeformConv;

impl Operator for DeformConv {
    fn op_type(&self) -> &'static str {
        "DeformConv"
    }

    fn since_version(&self) -> i64 {
        19
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match (x.shape.as_deref(), ctx.shape(1), ctx.shape(2)) {
            (Some([n, ..]), Some([oc, ..]), Some([_, _, output @ ..])) => {
                Some([&[n.clone(), oc.clone()], output].concat())
            }
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, weight) = (ctx.require(0)?, ctx.require(1)?);
        require_rank(x, 0, 4)?;
        let &[oc, ic_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong_weight(weight));
        };
        require_rank(weight, 1, 4)?;
        let (n, ic) = (x.shape()[0], x.shape()[1]);
        let group = group_of(ctx.node, oc)?;
        if ic != ic_per_group * group {
            return Err(OpError::input(
                0,
                format!(
                    "does not fit the weight, expected {} channels, got {ic}",
                    ic_per_group * group
                ),
            ));
        }
        let window = Window::new(ctx.node, 2, Some(kernel))?;
        let applied = window.apply(&x.shape()[2..])?;
        let (taps, pixels) = (
            kernel.iter().product::<usize>(),
            applied.output.iter().product::<usize>(),
        );
        let offset_group = offset_group(ctx, ic)?;
        let offsets = of_taps(ctx, 2, n, 2 * taps * offset_group, &applied)?;
        let mask = match ctx.input(4) {
            Some(_) => Some(of_taps(ctx, 4, n, taps * offset_group, &applied)?),
            None => None,
        };
        let sampler = Sampler {
            input: [x.shape()[2], x.shape()[3]],
            window: &window,
            applied: &applied,
        };
        let bias = match ctx.input(3) {
            Some(bias) if bias.shape() == [oc] => to_float32(bias, 3)?.into_owned(),
            Some(bias) => {
                return Err(OpError::input(
                    3,
                    format!("wrong shape, expected [{oc}], got {:?}", bias.shape()),
                ));
            }
            None => vec![0.0; oc],
        };
        let (values, weights) = (to_float32(x, 0)?, to_float32(weight, 1)?);
        let (plane, k, oc_per_group) = (x.shape()[2] * x.shape()[3], ic_per_group * taps, oc / group);
        let mut y = repeated(0.0, &[n, oc, pixels])?;
        let mut columns = repeated(0.0, &[k, pixels])?;
        for image in 0..n {
            for g in 0..group {
                let work = columns.len().saturating_mul(8);
                for_each_row(&mut columns, pixels, work, &|row, out| {
                    let (channel, tap) = (g * ic_per_group + row / taps, row % taps);
                    let shared = (image * offset_group + channel / (ic / offset_group)) * taps + tap;
                    let x = &values[(image * ic + channel) * plane..][..plane];
                    let shifts = &offsets[shared * 2 * pixels..][..2 * pixels];
                    sampler.sample(x, tap, shifts, out);
                    if let Some(mask) = &mask {
                        for (out, mask) in out.iter_mut().zip(&mask[shared * pixels..]) {
                            *out *= mask;
                        }
                    }
                });
                let first = g * oc_per_group;
                let out = &mut y[(image * oc + first) * pixels..][..oc_per_group * pixels];
                let weights = &weights[first * k..][..oc_per_group * k];
                matmul_f32(weights, &columns, oc_per_group, k, pixels, out);
            }
        }
        for (i, row) in y.chunks_exact_mut(pixels.max(1)).enumerate() {
            row.iter_mut().for_each(|y| *y += bias[i % oc]);
        }
        let shape = [&[n, oc], applied.output.as_slice()].concat();
        Ok(vec![from_float32(x.dtype(), &shape, y)?])
    }
}

fn offset_group(ctx: &EvalContext<'_>, channels: usize) -> Result<usize, OpError> {
    let group = ctx.int("offset_group", 1);
    usize::try_from(group)
        .ok()
        .filter(|&g| g > 0 && channels.is_multiple_of(g) && channels > 0)
        .ok_or_else(|| {
            OpError::attribute(
                "offset_group",
                format!("does not divide the channels, expected a divisor of {channels}, got {group}"),
            )
        })
}

/// An input of `[n, channels, oH, oW]`.
fn of_taps(
    ctx: &EvalContext<'_>,
    idx: usize,
    n: usize,
    channels: usize,
    applied: &Applied,
) -> Result<Vec<f32>, OpError> {
    let tensor = ctx.require(idx)?;
    let expected = [&[n, channels], applied.output.as_slice()].concat();
    if tensor.shape() == expected {
        return Ok(to_float32(tensor, idx)?.into_owned());
    }
    Err(OpError::input(
        idx,
        format!("wrong shape, expected {expected:?}, got {:?}", tensor.shape()),
    ))
}

/// Where the taps of a window lie on an image.
#[derive(Debug)]
struct Sampler<'a> {
    input: [usize; 2],
    window: &'a Window,
    applied: &'a Applied,
}

impl Sampler<'_> {
    /// The pixels under one tap of every window; `shifts` are all offsets along the height, then all along the width.
    fn sample(&self, x: &[f32], tap: usize, shifts: &[f32], out: &mut [f32]) {
        let taps = [tap / self.window.kernel[1], tap % self.window.kernel[1]];
        let (down, right) = shifts.split_at(out.len());
        for (i, (out, (&down, &right))) in out.iter_mut().zip(down.iter().zip(right)).enumerate() {
            let pixel = [i / self.applied.output[1], i % self.applied.output[1]];
            let at = |axis: usize, shift: f32| {
                let start =
                    pixel[axis] * self.window.strides[axis] + taps[axis] * self.window.dilations[axis];
                start as f32 - self.applied.pads[axis].0 as f32 + shift
            };
            *out = self.interpolate(x, at(0, down), at(1, right));
        }
    }

    fn interpolate(&self, x: &[f32], row: f32, column: f32) -> f32 {
        let (top, left) = (row.floor(), column.floor());
        let (low, right) = (row - top, column - left);
        let pixel = |row: f32, column: f32| {
            let inside = |at: f32, size: usize| at >= 0.0 && at < size as f32;
            if inside(row, self.input[0]) && inside(column, self.input[1]) {
                x[row as usize * self.input[1] + column as usize]
            } else {
                0.0
            }
        };
        (1.0 - low) * (1.0 - right) * pixel(top, left)
            + (1.0 - low) * right * pixel(top, left + 1.0)
            + low * (1.0 - right) * pixel(top + 1.0, left)
            + low * right * pixel(top + 1.0, left + 1.0)
    }
}

//! Convolutions over more than two spatial axes: rare, so a clear loop in ONNX order.

use qloupe_tensor::{Tensor, n_elements};

use super::movement::strides_of;
use super::scatter::advance;
use super::window::{Applied, Window};
use crate::OpError;

/// The value of a coordinate that is moved by a kernel tap, if it lies inside.
fn tap_position(
    window: &Window,
    applied: &Applied,
    axis: usize,
    output: usize,
    tap: usize,
    size: usize,
) -> Option<usize> {
    let position = output * window.strides[axis] + tap * window.dilations[axis];
    position.checked_sub(applied.pads[axis].0).filter(|&p| p < size)
}

/// `x` of `[n, c, ..]` convolved; the chain of each output runs over the taps, then the channels. A tap in the padding
/// is a multiply-add with 0.
pub(super) fn conv_volume(
    x: &[f32],
    shape: &[usize],
    weight: &Tensor,
    bias: &[f32],
    group: usize,
    window: &Window,
    applied: &Applied,
) -> Result<Vec<f32>, OpError> {
    let w = weight.require::<f32>()?;
    let (n, ic, input) = (shape[0], shape[1], &shape[2..]);
    let (oc, ic_per_group) = (weight.shape()[0], weight.shape()[1]);
    let strides = strides_of(input);
    let (pixels, taps): (usize, usize) = (input.iter().product(), window.kernel.iter().product());
    let output_pixels: usize = applied.output.iter().product();
    let mut y = Vec::with_capacity(n_elements(&[n, oc, output_pixels]).unwrap_or(0));
    for image in 0..n {
        for o in 0..oc {
            let first_channel = o / (oc / group) * ic_per_group;
            let mut at = vec![0; input.len()];
            for _ in 0..output_pixels {
                let mut acc = bias[o];
                let mut tap = vec![0; input.len()];
                for tap_idx in 0..taps {
                    let pixel: Option<usize> = (0..input.len())
                        .map(|axis| {
                            let p = tap_position(window, applied, axis, at[axis], tap[axis], input[axis])?;
                            Some(p * strides[axis])
                        })
                        .sum();
                    for i in 0..ic_per_group {
                        let channel = (image * ic + first_channel + i) * pixels;
                        let value = pixel.map_or(0.0, |pixel| x[channel + pixel]);
                        acc = w[(o * ic_per_group + i) * taps + tap_idx].mul_add(value, acc);
                    }
                    advance(&mut tap, &window.kernel);
                }
                y.push(acc);
                advance(&mut at, &applied.output);
            }
        }
    }
    Ok(y)
}

/// `x` of `[n, c, ..]` transposed-convolved with a weight `[c, oc_per_group, ..]`; the chain of each output runs over
/// the taps that reach it, then the channels.
pub(super) fn conv_transpose_volume(
    x: &[f32],
    shape: &[usize],
    weight: &Tensor,
    bias: &[f32],
    group: usize,
    window: &Window,
    applied: &Applied,
) -> Result<Vec<f32>, OpError> {
    let w = weight.require::<f32>()?;
    let (n, ic, input) = (shape[0], shape[1], &shape[2..]);
    let oc_per_group = weight.shape()[1];
    let oc = oc_per_group * group;
    let ic_per_group = ic / group;
    let strides = strides_of(input);
    let (pixels, taps): (usize, usize) = (input.iter().product(), window.kernel.iter().product());
    let output_pixels: usize = applied.output.iter().product();
    let mut y = Vec::with_capacity(n_elements(&[n, oc, output_pixels]).unwrap_or(0));
    let source = |axis: usize, output: usize, tap: usize| {
        let position = (output + applied.pads[axis].0).checked_sub(tap * window.dilations[axis])?;
        let reached =
            position.is_multiple_of(window.strides[axis]) && position / window.strides[axis] < input[axis];
        reached.then(|| position / window.strides[axis] * strides[axis])
    };
    for image in 0..n {
        for o in 0..oc {
            let first_channel = o / oc_per_group * ic_per_group;
            let mut at = vec![0; input.len()];
            for _ in 0..output_pixels {
                let mut acc = bias[o];
                let mut tap = vec![0; input.len()];
                for tap_idx in 0..taps {
                    let pixel: Option<usize> = (0..input.len())
                        .map(|axis| source(axis, at[axis], tap[axis]))
                        .sum();
                    if let Some(pixel) = pixel {
                        for i in first_channel..first_channel + ic_per_group {
                            let weight = w[(i * oc_per_group + o % oc_per_group) * taps + tap_idx];
                            acc = weight.mul_add(x[(image * ic + i) * pixels + pixel], acc);
                        }
                    }
                    advance(&mut tap, &window.kernel);
                }
                y.push(acc);
                advance(&mut at, &applied.output);
            }
        }
    }
    Ok(y)
}

//! Pullbacks of pools: gradients go to the largest element, or to all in equal shares.

use qloupe_tensor::Tensor;

use super::pooling::{Pool, planes};
use super::rows::for_each_row;
use super::scatter::advance;
use crate::{Layout, OpError, Pullback, PullbackContext};

/// The pullback of a pool whose outputs are single elements of the input: `positions[i]` is where output `i` comes from.
pub(super) fn picked<'a>(shape: &'a [usize], positions: Vec<Option<usize>>) -> Pullback<'a> {
    Pullback::of_first(move |gradient| {
        let mut sums = vec![0.0; shape.iter().product()];
        for (position, g) in positions.iter().zip(gradient.require::<f32>()?) {
            if let Some(position) = *position {
                sums[position] += g;
            }
        }
        Ok(Tensor::new(shape, sums)?)
    })
}

/// For each output of a pool the position of the element that `choose` takes from those under the window.
///
/// # Errors
/// Another type than float.
pub(super) fn chosen(
    pool: &Pool,
    x: &Tensor,
    layout: Layout,
    choose: impl Fn(&[f32]) -> Option<usize>,
) -> Result<Vec<Option<usize>>, OpError> {
    let pixels: usize = pool.input.iter().product();
    let inner = if layout == Layout::Nhwc { pool.channels } else { 1 };
    let x = x.to_f32()?;
    Ok(pool.reduce(x.require::<f32>()?, |values, taps| {
        let pixel = taps.pixels[choose(values)?];
        Some((taps.plane / inner * pixels + pixel) * inner + taps.plane % inner)
    }))
}

/// The pullback of a mean under a window.
pub(super) fn averaged<'a>(
    pool: Pool,
    shape: &'a [usize],
    layout: Layout,
    with_padding: bool,
) -> Pullback<'a> {
    let pixels: usize = pool.input.iter().product();
    let (outer, inner) = match layout {
        Layout::Plain => (pool.n * pool.channels, 1),
        Layout::Nhwc => (pool.n, pool.channels),
    };
    let mut windows = Vec::new();
    let mut at = vec![0; pool.input.len()];
    for _ in 0..pool.applied.output.iter().product::<usize>() {
        let taps = pool.taps(&at);
        let count = if with_padding {
            taps.n_padded
        } else {
            taps.pixels.len()
        };
        windows.push((taps.pixels, 1.0 / count as f32));
        advance(&mut at, &pool.applied.output);
    }
    Pullback::of_first(move |gradient| {
        let gradient = gradient.require::<f32>()?;
        let mut sums = vec![0.0; outer * pixels * inner];
        for o in 0..outer {
            let sums = &mut sums[o * pixels * inner..][..pixels * inner];
            let gradient = &gradient[o * windows.len() * inner..];
            for ((pixels, share), g) in windows.iter().zip(gradient.chunks_exact(inner.max(1))) {
                for pixel in pixels {
                    for (sum, g) in sums[pixel * inner..].iter_mut().zip(g) {
                        *sum += share * g;
                    }
                }
            }
        }
        Ok(Tensor::new(shape, sums)?)
    })
}

/// The pullback of the mean of each channel.
///
/// # Errors
/// A rank without channels.
pub(super) fn globally_averaged<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let shape = ctx.call.require(0)?.shape();
    let (n, channels, spatial) = planes(shape, ctx.call.layout)?;
    let pixels: usize = spatial.iter().product();
    let share = 1.0 / pixels as f32;
    let (outer, inner) = match ctx.call.layout {
        Layout::Plain => (n * channels, 1),
        Layout::Nhwc => (n, channels),
    };
    Ok(Pullback::of_first(move |gradient| {
        let gradient = gradient.require::<f32>()?;
        let shares: Vec<f32> = gradient.iter().map(|g| g * share).collect();
        let mut values = vec![0.0; outer * pixels * inner];
        let (row, work) = if inner == 1 {
            (pixels, outer * pixels)
        } else {
            (inner, outer * pixels * inner)
        };
        for_each_row(&mut values, row, work, &|at, values| {
            if inner == 1 {
                values.fill(shares[at]);
            } else {
                values.copy_from_slice(&shares[at / pixels * inner..][..inner]);
            }
        });
        Ok(Tensor::new(shape, values)?)
    }))
}

/// The pullback of the largest element of each channel.
///
/// # Errors
/// A rank without channels, another type than float.
pub(super) fn globally_largest<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let x = ctx.call.require(0)?;
    let (n, channels, spatial) = planes(x.shape(), ctx.call.layout)?;
    let pixels: usize = spatial.iter().product();
    let values = x.to_f32()?;
    let values = values.require::<f32>()?;
    let mut positions = Vec::with_capacity(n * channels);
    for plane in 0..n * channels {
        let (start, stride) = match ctx.call.layout {
            Layout::Plain => (plane * pixels, 1),
            Layout::Nhwc => (plane / channels * channels * pixels + plane % channels, channels),
        };
        let mut best: Option<usize> = None;
        for at in (0..pixels).map(|i| start + i * stride) {
            if best.is_none_or(|best| values[at] > values[best]) {
                best = Some(at);
            }
        }
        positions.push(best);
    }
    Ok(picked(x.shape(), positions))
}

//! The slow, clear convolutions and products: what every fast kernel must equal bit for bit.
//!
//! One accumulator per output element starts at the bias and takes one fused multiply-add per tap, in the order
//! (kh, kw, ic). A tap in the padding is a multiply-add with 0.

use crate::{ConvGeometry, ConvTransposeGeometry};

/// `value` clipped to `(min, max)`; NaN stays NaN.
#[inline(always)]
pub(crate) fn clip(value: f32, (min, max): (f32, f32)) -> f32 {
    let value = if min > value { min } else { value };
    if max < value { max } else { value }
}

/// The position of a tap along one axis, or `None` in the padding.
#[inline]
fn tap(
    output: usize,
    stride: usize,
    kernel: usize,
    dilation: usize,
    pad: usize,
    size: usize,
) -> Option<usize> {
    (output * stride + kernel * dilation)
        .checked_sub(pad)
        .filter(|&at| at < size)
}

/// Folds every tap of one output element of a convolution in order: `fold(accumulator, offset in x, offset in OIHW)`.
fn fold_taps<A>(
    g: &ConvGeometry,
    (n, oy, ox, o): (usize, usize, usize, usize),
    start: A,
    mut fold: impl FnMut(A, Option<usize>, usize) -> A,
) -> A {
    let (icg, ocg) = (g.ic / g.group, g.oc / g.group);
    let mut acc = start;
    for kh in 0..g.kh {
        let iy = tap(oy, g.stride_h, kh, g.dilation_h, g.pad_top, g.ih);
        for kw in 0..g.kw {
            let ix = tap(ox, g.stride_w, kw, g.dilation_w, g.pad_left, g.iw);
            for i in 0..icg {
                let x = iy
                    .zip(ix)
                    .map(|(iy, ix)| ((n * g.ih + iy) * g.iw + ix) * g.ic + o / ocg * icg + i);
                acc = fold(acc, x, ((o * icg + i) * g.kh + kh) * g.kw + kw);
            }
        }
    }
    acc
}

fn for_each_output(
    n: usize,
    oh: usize,
    ow: usize,
    oc: usize,
    mut visit: impl FnMut(usize, (usize, usize, usize, usize)),
) {
    for i in 0..n * oh * ow * oc {
        let (pixel, o) = (i / oc, i % oc);
        visit(i, (pixel / ow / oh, pixel / ow % oh, pixel % ow, o));
    }
}

pub(crate) fn conv_f32(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    g: &ConvGeometry,
    clamp: (f32, f32),
    out: &mut [f32],
) {
    for_each_output(g.n, g.oh(), g.ow(), g.oc, |i, at| {
        let acc = fold_taps(g, at, bias[at.3], |acc, x_idx, w_idx| {
            x_idx.map_or(0.0, |idx| x[idx]).mul_add(weight[w_idx], acc)
        });
        out[i] = clip(acc, clamp);
    });
}

/// The exact accumulators `sum((x - x_zero_point) * w) + bias`, modulo 2^32.
pub(crate) fn conv_i8<W: Copy + Into<i32>>(
    x: impl Fn(usize) -> i32,
    x_zero_point: i32,
    weight: &[W],
    bias: &[i32],
    g: &ConvGeometry,
) -> Vec<i32> {
    let mut out = vec![0; g.n_outputs()];
    for_each_output(g.n, g.oh(), g.ow(), g.oc, |i, at| {
        out[i] = fold_taps(g, at, bias[at.3], |acc, x_idx, w_idx| {
            let x = x_idx.map_or(0, |idx| x(idx) - x_zero_point);
            acc.wrapping_add(x.wrapping_mul(weight[w_idx].into()))
        });
    });
    out
}

pub(crate) fn conv_transpose_f32(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    geometry: &ConvTransposeGeometry,
    clamp: (f32, f32),
    out: &mut [f32],
) {
    let g = &geometry.conv;
    let (icg, ocg) = (g.ic / g.group, g.oc / g.group);
    // None: no input position of the stride grid reaches this output; Some(None): one in the padding does.
    let tap = |output: usize, pad: usize, kernel: usize, dilation: usize, stride: usize, size: usize| {
        let from = (output + pad) as isize - (kernel * dilation) as isize;
        (from.rem_euclid(stride as isize) == 0).then(|| {
            usize::try_from(from / stride as isize)
                .ok()
                .filter(|&at| from >= 0 && at < size)
        })
    };
    for_each_output(g.n, geometry.oh(), geometry.ow(), g.oc, |i, (n, oy, ox, o)| {
        let mut acc = bias[o];
        for kh in 0..g.kh {
            let Some(iy) = tap(oy, g.pad_top, kh, g.dilation_h, g.stride_h, g.ih) else {
                continue;
            };
            for kw in 0..g.kw {
                let Some(ix) = tap(ox, g.pad_left, kw, g.dilation_w, g.stride_w, g.iw) else {
                    continue;
                };
                for j in 0..icg {
                    let channel = o / ocg * icg + j;
                    let value = iy
                        .zip(ix)
                        .map_or(0.0, |(iy, ix)| x[((n * g.ih + iy) * g.iw + ix) * g.ic + channel]);
                    let w = weight[((channel * ocg + o % ocg) * g.kh + kh) * g.kw + kw];
                    acc = value.mul_add(w, acc);
                }
            }
        }
        out[i] = clip(acc, clamp);
    });
}

pub(crate) fn matmul_f32(a: &[f32], b: &[f32], bias: &[f32], k: usize, n: usize, out: &mut [f32]) {
    if n == 0 {
        return;
    }
    for (row, out) in out.chunks_mut(n).enumerate() {
        for (j, out) in out.iter_mut().enumerate() {
            *out = (0..k).fold(bias[j], |acc, i| a[row * k + i].mul_add(b[i * n + j], acc));
        }
    }
}

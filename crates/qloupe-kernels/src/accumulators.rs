//! What happens to exact int32 accumulators outside the kernels of products: weights with zero points are completed, and
//! accumulators become real numbers or 8-bit outputs.

use std::mem::MaybeUninit;

use qloupe_tensor::{Requantize, Rounding, dequantize_accumulator};

use crate::buffer::filled;
use crate::multiversion::multiversion;
use crate::{ConvGeometry, Epilogue, Isa, QuantizedSlice, QuantizedSliceMut, isa, parallel};

/// The sums over `x - x_zero_point` of each group under every window of a convolution, `[n, oh, ow, group]`; the padding
/// adds nothing.
pub fn window_sums(x: QuantizedSlice<'_>, geometry: &ConvGeometry, x_zero_point: i32) -> Vec<i32> {
    assert_eq!(x.len(), geometry.n_inputs(), "length of the input");
    let pixels = match x {
        QuantizedSlice::U8(x) => group_sums(x, geometry, x_zero_point),
        QuantizedSlice::I8(x) => group_sums(x, geometry, x_zero_point),
    };
    let g = geometry;
    if (g.oh(), g.ow()) == (g.ih, g.iw) && (g.kh, g.kw) == (1, 1) {
        return pixels;
    }
    let (oh, ow, row) = (g.oh(), g.ow(), g.iw * g.group);
    let mut sums = vec![0; g.n * oh * ow * g.group];
    let of_row = |out_row: usize, sums: &mut [i32]| {
        let image = &pixels[out_row / oh * g.ih * row..][..g.ih * row];
        // Rows under the window, added up; then the columns of that.
        let mut columns = vec![0_i32; row];
        for kh in 0..g.kh {
            let iy = (out_row % oh * g.stride_h + kh * g.dilation_h).wrapping_sub(g.pad_top);
            if iy < g.ih {
                let line = &image[iy * row..][..row];
                columns.iter_mut().zip(line).for_each(|(sum, x)| *sum += x);
            }
        }
        for (ox, sums) in sums.chunks_mut(g.group).enumerate() {
            for kw in 0..g.kw {
                let ix = (ox * g.stride_w + kw * g.dilation_w).wrapping_sub(g.pad_left);
                if ix < g.iw {
                    let column = &columns[ix * g.group..][..g.group];
                    sums.iter_mut().zip(column).for_each(|(sum, x)| *sum += x);
                }
            }
        }
    };
    for (out_row, sums) in sums.chunks_mut((ow * g.group).max(1)).enumerate() {
        of_row(out_row, sums);
    }
    sums
}

/// The sums over the channels of each group and pixel.
fn group_sums<Q: Copy + Into<i32> + Sync>(x: &[Q], g: &ConvGeometry, x_zero_point: i32) -> Vec<i32> {
    let n = g.ic / g.group;
    let mut sums = vec![0; g.n * g.ih * g.iw * g.group];
    if n == 0 {
        return sums;
    }
    let isa = isa();
    parallel::zip_rows(x, n, &mut sums, 1, |_, x, sums| {
        add_up(isa, x, n, x_zero_point, sums)
    });
    sums
}

multiversion! {
    fn add_up [Q: Copy + Into<i32>] (x: &[Q], n: usize, x_zero_point: i32, sums: &mut [i32]) {
        let of_all = x_zero_point * n as i32;
        for (x, sum) in x.chunks_exact(n).zip(sums) {
            let mut total = 0_i32;
            for &x in x {
                let x: i32 = x.into();
                total += x;
            }
            *sum = total - of_all;
        }
    }
}

/// `acc[.., c] -= zero_point[c] * window[.., g]`, where channel `c` is of group `g`: from the sums over `(x - x_zero_point) * q`
/// to those over `(x - x_zero_point) * (q - zero_point)`. `window` holds the sums over `x - x_zero_point` of each group; one
/// zero point serves all channels.
pub fn subtract_window_sums(acc: &mut [i32], window: &[i32], zero_point: &[i32], n_channels: usize) {
    if acc.is_empty() {
        return;
    }
    let n = zero_point.len();
    assert!(
        n == 1 || n == n_channels,
        "number of zero points, expected 1 or {n_channels}, got {n}"
    );
    let n_groups = window.len() * n_channels / acc.len();
    assert!(
        n_groups > 0
            && n_channels.is_multiple_of(n_groups)
            && window.len() * n_channels == acc.len() * n_groups,
        "{} sums of windows for {} accumulators of {n_channels} channels",
        window.len(),
        acc.len()
    );
    let of_each: Vec<i32> = (0..n_channels).map(|c| zero_point[c % n]).collect();
    let isa = isa();
    parallel::zip_rows(window, n_groups, acc, n_channels, |_, window, acc| {
        subtract(isa, window, &of_each, n_groups, acc);
    });
}

multiversion! {
    fn subtract(window: &[i32], zero_point: &[i32], n_groups: usize, acc: &mut [i32]) {
        let n_channels = zero_point.len();
        let n = n_channels / n_groups;
        for (acc, window) in acc.chunks_mut(n_channels).zip(window.chunks(n_groups)) {
            for ((acc, zero_point), &sum) in acc.chunks_mut(n).zip(zero_point.chunks(n)).zip(window) {
                for (acc, zero_point) in acc.iter_mut().zip(zero_point) {
                    *acc -= zero_point * sum;
                }
            }
        }
    }
}

/// Channels that are worth a loop of their own.
const MIN_ROW: usize = 64;

/// Numbers of channels, one for all or one for each, for as many pixels as make a loop worth it.
fn rows_of<T: Copy>(of_channels: &[T], n_channels: usize) -> Vec<T> {
    let n = of_channels.len();
    let n_pixels = (MIN_ROW / n_channels).max(1);
    (0..n_pixels * n_channels)
        .map(|i| of_channels[i % n_channels % n])
        .collect()
}

/// [`Epilogue::apply`] over many accumulators, bit-equal to it.
pub fn requantize_accumulators(
    acc: &[i32],
    n_channels: usize,
    epilogue: &Epilogue,
    out: QuantizedSliceMut<'_>,
) {
    requantize_accumulators_with_isa(isa(), acc, n_channels, epilogue, out);
}

/// [`requantize_accumulators`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn requantize_accumulators_with_isa(
    isa: Isa,
    acc: &[i32],
    n_channels: usize,
    epilogue: &Epilogue,
    mut out: QuantizedSliceMut<'_>,
) {
    isa.require();
    epilogue.check(n_channels, &out);
    if epilogue.policy != Requantize::FloatScaleZeroPointAfter || n_channels == 0 {
        epilogue.apply(acc, n_channels, &mut out);
        return;
    }
    let multiplier = rows_of(&epilogue.multiplier, n_channels);
    let zero_point = epilogue.zero_point as f32;
    let range = (epilogue.min as f32, epilogue.max as f32);
    match out {
        QuantizedSliceMut::I8(out) => {
            parallel::zip_rows(acc, n_channels, out, n_channels, |_, acc, out| {
                requantize_i8(isa, acc, &multiplier, zero_point, range, out);
            });
        }
        QuantizedSliceMut::U8(out) => {
            parallel::zip_rows(acc, n_channels, out, n_channels, |_, acc, out| {
                requantize_u8(isa, acc, &multiplier, zero_point, range, out);
            });
        }
    }
}

/// As the policy says, without the checks of a conversion that keep the compiler from vectorizing.
#[inline(always)]
fn requantized(acc: i32, multiplier: f32, zero_point: f32, (min, max): (f32, f32)) -> i32 {
    let shifted = Rounding::TiesEven.round(dequantize_accumulator(acc, multiplier)) + zero_point;
    let raised = if shifted > min { shifted } else { min };
    let clipped = if raised < max { raised } else { max };
    // SAFETY: the value is inside an 8-bit range, and not NaN.
    unsafe { clipped.to_int_unchecked() }
}

multiversion! {
    fn requantize_i8(acc: &[i32], multiplier: &[f32], zero_point: f32, range: (f32, f32), out: &mut [i8]) {
        for (acc, out) in acc.chunks(multiplier.len()).zip(out.chunks_mut(multiplier.len())) {
            for ((out, &acc), &multiplier) in out.iter_mut().zip(acc).zip(multiplier) {
                *out = requantized(acc, multiplier, zero_point, range) as i8;
            }
        }
    }
}

multiversion! {
    fn requantize_u8(acc: &[i32], multiplier: &[f32], zero_point: f32, range: (f32, f32), out: &mut [u8]) {
        for (acc, out) in acc.chunks(multiplier.len()).zip(out.chunks_mut(multiplier.len())) {
            for ((out, &acc), &multiplier) in out.iter_mut().zip(acc).zip(multiplier) {
                *out = requantized(acc, multiplier, zero_point, range) as u8;
            }
        }
    }
}

/// `acc[.., c] * scale[c]`, bit-equal to [`dequantize_accumulator`]; one scale serves all channels.
pub fn dequantize_accumulators(acc: &[i32], scale: &[f32], n_channels: usize) -> Vec<f32> {
    dequantize_accumulators_with_isa(isa(), acc, scale, n_channels)
}

/// [`dequantize_accumulators`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn dequantize_accumulators_with_isa(isa: Isa, acc: &[i32], scale: &[f32], n_channels: usize) -> Vec<f32> {
    isa.require();
    let n = scale.len();
    assert!(
        n == 1 || n == n_channels,
        "number of scales, expected 1 or {n_channels}, got {n}"
    );
    if n_channels == 0 {
        return Vec::new();
    }
    let scales = rows_of(scale, n_channels);
    let of_channels = |out: &mut [MaybeUninit<f32>]| {
        parallel::zip_rows(acc, n_channels, out, n_channels, |_, acc, out| {
            channels(isa, acc, &scales, out);
        });
    };
    let of_all = |out: &mut [MaybeUninit<f32>]| {
        parallel::zip_chunks(acc, out, |acc, out| one_scale(isa, acc, scale[0], out));
    };
    // SAFETY: the blocks write every element.
    unsafe {
        if n == 1 {
            filled(acc.len(), of_all)
        } else {
            filled(acc.len(), of_channels)
        }
    }
}

multiversion! {
    fn channels(acc: &[i32], scale: &[f32], out: &mut [MaybeUninit<f32>]) {
        for (acc, out) in acc.chunks(scale.len()).zip(out.chunks_mut(scale.len())) {
            for ((out, &acc), &scale) in out.iter_mut().zip(acc).zip(scale) {
                out.write(dequantize_accumulator(acc, scale));
            }
        }
    }
}

multiversion! {
    fn one_scale(acc: &[i32], scale: f32, out: &mut [MaybeUninit<f32>]) {
        for (out, &acc) in out.iter_mut().zip(acc) {
            out.write(dequantize_accumulator(acc, scale));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConvI8;

    fn accumulators(n: usize) -> Vec<i32> {
        (0..n as i32)
            .map(|i| i.wrapping_mul(0x0123_4567) >> (i % 17 + 2))
            .collect()
    }

    #[test]
    fn window_sums_complete_weights_with_zero_points() {
        // Two rows of four channels in two groups.
        let mut acc = vec![10, 20, 30, 40, 50, 60, 70, 80];
        subtract_window_sums(&mut acc, &[1, 2, 3, 4], &[1, 2, 3, -4], 4);
        assert_eq!(acc, [9, 18, 24, 48, 47, 54, 58, 96]);
        let mut acc = vec![10, 20, 30, 40];
        subtract_window_sums(&mut acc, &[1, 2], &[5], 2);
        assert_eq!(acc, [5, 15, 20, 30], "one zero point for all");
    }

    #[test]
    fn window_sums_are_a_convolution_with_ones() {
        let g = ConvGeometry {
            n: 2,
            ih: 6,
            iw: 5,
            ic: 38,
            oc: 2,
            kh: 3,
            kw: 2,
            stride_h: 2,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 2,
            pad_top: 2,
            pad_left: 1,
            pad_bottom: 0,
            pad_right: 3,
            group: 2,
        };
        let pointwise = ConvGeometry {
            kh: 1,
            kw: 1,
            stride_h: 1,
            pad_top: 0,
            pad_left: 0,
            pad_right: 0,
            ..g
        };
        for g in [g, ConvGeometry { stride_w: 3, ..g }, pointwise] {
            let bytes: Vec<u8> = (0..g.n_inputs()).map(|i| (i * 37 % 251) as u8).collect();
            let signed: Vec<i8> = bytes.iter().map(|&x| x.cast_signed()).collect();
            let ones = vec![1; g.ic * g.kh * g.kw];
            let ones = ConvI8::with_isa(
                Isa::Scalar,
                &ones,
                None,
                g.group,
                g.ic / g.group,
                g.kh,
                g.kw,
                g.group,
            );
            for (x, zero_point) in [
                (QuantizedSlice::U8(&bytes), 200),
                (QuantizedSlice::I8(&signed), -128),
            ] {
                let expected = ones.accumulate(x, &g, zero_point);
                assert_eq!(window_sums(x, &g, zero_point), expected, "{g:?}");
            }
        }
    }

    #[test]
    fn requantized_accumulators_are_those_of_the_policy() {
        let policies = [
            Requantize::FloatScaleZeroPointAfter,
            Requantize::FloatScaleZeroPointBefore,
        ];
        for (n_channels, policy) in [1, 3, 17, 64].into_iter().flat_map(|n| policies.map(|p| (n, p))) {
            let acc = accumulators(n_channels * 531);
            let multipliers: Vec<f32> = (0..n_channels).map(|c| 1e-5 * (c as f32 + 0.5)).collect();
            for multiplier in [&multipliers[..1], &multipliers[..]] {
                let epilogue = |zero_point, min, max| Epilogue {
                    multiplier: multiplier.to_vec(),
                    zero_point,
                    min,
                    max,
                    policy,
                };
                let (signed, unsigned) = (epilogue(-17, -100, 90), epilogue(130, 3, 255));
                let (mut i8_, mut u8_) = (vec![0_i8; acc.len()], vec![0_u8; acc.len()]);
                signed.apply(&acc, n_channels, &mut QuantizedSliceMut::I8(&mut i8_));
                unsigned.apply(&acc, n_channels, &mut QuantizedSliceMut::U8(&mut u8_));
                for isa in Isa::available() {
                    let (mut a, mut b) = (vec![0_i8; acc.len()], vec![0_u8; acc.len()]);
                    let out = QuantizedSliceMut::I8(&mut a);
                    requantize_accumulators_with_isa(isa, &acc, n_channels, &signed, out);
                    let out = QuantizedSliceMut::U8(&mut b);
                    requantize_accumulators_with_isa(isa, &acc, n_channels, &unsigned, out);
                    assert!(a == i8_ && b == u8_, "{isa:?} {policy:?} {n_channels}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_has_the_bits_of_the_formula() {
        for n_channels in [1, 3, 17, 64] {
            let acc = accumulators(n_channels * 701);
            let scales: Vec<f32> = (0..n_channels).map(|c| 1e-4 * (c as f32 + 0.37)).collect();
            for scale in [&scales[..1], &scales[..]] {
                let expected: Vec<f32> = acc
                    .iter()
                    .enumerate()
                    .map(|(i, &acc)| dequantize_accumulator(acc, scale[i % n_channels % scale.len()]))
                    .collect();
                for isa in Isa::available() {
                    assert_eq!(
                        dequantize_accumulators_with_isa(isa, &acc, scale, n_channels),
                        expected,
                        "{isa:?} {n_channels}"
                    );
                }
            }
        }
        assert!(dequantize_accumulators(&[], &[1.0], 0).is_empty(), "no channel");
    }
}

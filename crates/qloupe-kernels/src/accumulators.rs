//! What happens to exact int32 accumulators outside the kernels of products: weights with zero points are completed, and
//! accumulators become real numbers or 8-bit outputs.

use std::mem::MaybeUninit;

use qloupe_tensor::{Requantize, Rounding, dequantize_accumulator};

use crate::buffer::filled;
use crate::multiversion::multiversion;
use crate::{Epilogue, Isa, QuantizedSliceMut, isa, parallel};

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
    let n = epilogue.multiplier.len();
    let multiplier: Vec<f32> = (0..n_channels).map(|c| epilogue.multiplier[c % n]).collect();
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
    let of_channels = |out: &mut [MaybeUninit<f32>]| {
        parallel::zip_rows(acc, n_channels, out, n_channels, |_, acc, out| {
            for (acc, out) in acc.chunks(n_channels).zip(out.chunks_mut(n_channels)) {
                channels(isa, acc, scale, out);
            }
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
        for ((out, &acc), &scale) in out.iter_mut().zip(acc).zip(scale) {
            out.write(dequantize_accumulator(acc, scale));
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

//! From an int32 accumulator to a quantized output: the policies, by name.

use crate::rounding::clip_to_i32;

/// How a target turns an accumulator into a quantized value. "Integer-exact" always names one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requantize {
    /// `clip(rne(f32(acc) * scale) + zero_point)`: the multiplier is one f32 (ONNX Runtime's convolutions and GEMMs).
    FloatScaleZeroPointAfter,
    /// `clip(rne(value + zero_point))`, value in f32 (ONNX Runtime's fused element-wise kernels).
    FloatScaleZeroPointBefore,
    /// 31-bit fixed-point multiplier and a shift, both rounding (TFLite reference kernels: gemmlowp double rounding).
    FixedPointDoubleRounding,
    /// 31-bit fixed-point multiplier and a shift, rounding once, halves up (TFLite single rounding).
    FixedPointSingleRounding,
    /// `clip(rounding_shift_right(acc, shift) + zero_point)`: multiplier rounded to a power of two.
    PowerOfTwo,
}

/// The real number that an accumulator stands for: `f32(acc) * scale`, with `scale = input_scale * weight_scale`.
///
/// # Edge cases
/// An accumulator beyond 2^24 is rounded to the nearest f32 first, ties to even.
/// # Example
/// ```
/// assert_eq!(qloupe_tensor::dequantize_accumulator(-5, 0.5), -2.5);
/// ```
#[inline(always)]
#[expect(
    clippy::as_conversions,
    reason = "i32 to f32 rounds to nearest, as the hardware conversion does"
)]
pub fn dequantize_accumulator(acc: i32, scale: f32) -> f32 {
    acc as f32 * scale
}

impl Requantize {
    /// The name that plans and reports print.
    pub fn name(self) -> &'static str {
        match self {
            Self::FloatScaleZeroPointAfter => "float_scale_zero_point_after",
            Self::FloatScaleZeroPointBefore => "float_scale_zero_point_before",
            Self::FixedPointDoubleRounding => "fixed_point_double_rounding",
            Self::FixedPointSingleRounding => "fixed_point_single_rounding",
            Self::PowerOfTwo => "power_of_two",
        }
    }

    /// Requantizes one accumulator: `acc * multiplier` on the output grid, clipped to `[min, max]`.
    ///
    /// # Edge cases
    /// The clip bounds hold the output dtype or the tighter range of a fused Relu or Clip.
    /// # Source
    /// ONNX Runtime `MlasRequantizeOutput`; TFLite `MultiplyByQuantizedMultiplier`.
    /// # Example
    /// ```
    /// use qloupe_tensor::Requantize;
    /// let policy = Requantize::FloatScaleZeroPointAfter;
    /// assert_eq!(policy.apply(5, 0.5, 10, (-128, 127)), 12); // 2.5 ties to 2
    /// ```
    #[inline]
    #[expect(
        clippy::as_conversions,
        reason = "i32 to f32 rounds to nearest, as the hardware conversion does"
    )]
    pub fn apply(self, acc: i32, multiplier: f32, zero_point: i32, (min, max): (i32, i32)) -> i32 {
        let (low, high) = (min as f32, max as f32);
        let rne = crate::Rounding::TiesEven;
        match self {
            Self::FloatScaleZeroPointAfter => {
                let rounded = rne.round(acc as f32 * multiplier);
                clip_to_i32(rounded + zero_point as f32, low, high)
            }
            Self::FloatScaleZeroPointBefore => {
                clip_to_i32(rne.round(acc as f32 * multiplier + zero_point as f32), low, high)
            }
            Self::FixedPointDoubleRounding => {
                let (mantissa, shift) = fixed_point(multiplier);
                let high_mul = saturating_rounding_doubling_high_mul(shift_left(acc, shift.max(0)), mantissa);
                let q = rounding_divide_by_power_of_two(high_mul, (-shift).max(0));
                clip_i64(i64::from(q) + i64::from(zero_point), min, max)
            }
            Self::FixedPointSingleRounding => {
                let (mantissa, shift) = fixed_point(multiplier);
                let total = (31 - shift).clamp(1, 62);
                let q = (i64::from(acc) * i64::from(mantissa) + (1_i64 << (total - 1))) >> total;
                clip_i64(q + i64::from(zero_point), min, max)
            }
            Self::PowerOfTwo => {
                let exponent = rne.round(multiplier.log2());
                let scaled = f64::from(acc) * f64::from(exponent).exp2();
                clip_i64((scaled + 0.5).floor() as i64 + i64::from(zero_point), min, max)
            }
        }
    }
}

#[inline]
fn clip_i64(x: i64, min: i32, max: i32) -> i32 {
    i32::try_from(x.clamp(i64::from(min), i64::from(max))).expect("invariant: clipped to i32")
}

/// `multiplier = mantissa * 2^(shift - 31)`, mantissa in `[2^30, 2^31)`.
#[expect(clippy::as_conversions, reason = "the mantissa has 31 bits")]
fn fixed_point(multiplier: f32) -> (i32, i32) {
    if multiplier == 0.0 {
        return (0, 0);
    }
    let exact = f64::from(multiplier);
    let shift = exact.abs().log2().floor() as i32 + 1;
    let mantissa = (exact * f64::from(31 - shift).exp2()).round_ties_even() as i64;
    if mantissa == 1 << 31 {
        (1 << 30, shift + 1)
    } else {
        (mantissa as i32, shift)
    }
}

#[expect(clippy::as_conversions, reason = "saturated before the conversion")]
fn shift_left(x: i32, bits: i32) -> i32 {
    (i64::from(x) << bits.min(31)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    i32::try_from((product + nudge) / (1_i64 << 31)).expect("invariant: the high half of a product fits")
}

fn rounding_divide_by_power_of_two(x: i32, bits: i32) -> i32 {
    let bits = bits.min(31);
    let mask = (1_i64 << bits) - 1;
    let remainder = i64::from(x) & mask;
    let threshold = (mask >> 1) + i64::from(x < 0);
    let shifted = (i64::from(x) >> bits) + i64::from(remainder > threshold);
    i32::try_from(shifted).expect("invariant: a right shift fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn policies_differ_exactly_at_ties() {
        let full = (-128, 127);
        // 2.5 + 1: before rounds 3.5 to 4, after rounds 2.5 to 2 and adds 1.
        assert_eq!(Requantize::FloatScaleZeroPointAfter.apply(5, 0.5, 1, full), 3);
        assert_eq!(Requantize::FloatScaleZeroPointBefore.apply(5, 0.5, 1, full), 4);
        assert_eq!(Requantize::FixedPointSingleRounding.apply(-5, 0.5, 0, full), -2);
        assert_eq!(Requantize::FixedPointDoubleRounding.apply(-5, 0.5, 0, full), -2);
        assert_eq!(Requantize::PowerOfTwo.apply(100, 0.26, 0, full), 25);
    }

    proptest! {
        #[test]
        fn every_policy_is_within_one_step_of_the_rational_result(acc in -1_000_000_i32..1_000_000, multiplier in 1e-5_f32..0.5) {
            let exact = f64::from(acc) * f64::from(multiplier);
            for policy in [Requantize::FloatScaleZeroPointAfter, Requantize::FloatScaleZeroPointBefore,
                Requantize::FixedPointDoubleRounding, Requantize::FixedPointSingleRounding] {
                let q = policy.apply(acc, multiplier, 3, (i32::MIN, i32::MAX));
                prop_assert!((f64::from(q) - 3.0 - exact).abs() <= 1.0, "{policy:?}: {q} for {exact}");
            }
        }

        #[test]
        fn single_rounding_is_the_exact_rational_rounding(acc in any::<i32>(), multiplier in 1e-4_f32..0.9) {
            let (mantissa, shift) = fixed_point(multiplier);
            let denominator = 1_i128 << (31 - shift);
            let exact = (2 * i128::from(acc) * i128::from(mantissa) + denominator).div_euclid(2 * denominator);
            let q = Requantize::FixedPointSingleRounding.apply(acc, multiplier, 0, (i32::MIN, i32::MAX));
            prop_assert_eq!(i128::from(q), exact.clamp(i128::from(i32::MIN), i128::from(i32::MAX)));
        }
    }
}

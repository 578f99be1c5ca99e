//! Rounding to float16 storage, counting what is lost.

use half::f16;

/// What rounding to float16 did to a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fp16Counts {
    /// Finite values that became infinite (beyond 65504).
    pub n_overflow: usize,
    /// Nonzero values that became 0 (below 2^-25).
    pub n_underflow: usize,
    /// NaN in the input.
    pub n_nan: usize,
}

impl Fp16Counts {
    /// Adds the counts of another buffer.
    pub fn merge(&mut self, other: Self) {
        self.n_overflow += other.n_overflow;
        self.n_underflow += other.n_underflow;
        self.n_nan += other.n_nan;
    }
}

/// The nearest float16 value, as f32 (ties to even; beyond 65504 infinite; subnormals kept).
#[inline]
pub fn round_to_fp16(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// Rounds every value to float16 and counts overflow, underflow and NaN.
pub fn round_to_fp16_in_place(values: &mut [f32]) -> Fp16Counts {
    let mut counts = Fp16Counts::default();
    for v in values {
        let rounded = round_to_fp16(*v);
        counts.n_nan += usize::from(v.is_nan());
        counts.n_overflow += usize::from(v.is_finite() && rounded.is_infinite());
        counts.n_underflow += usize::from(*v != 0.0 && rounded == 0.0);
        *v = rounded;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted() {
        let mut values = [65504.0, 65520.0, 1e-8, 0.0, f32::NAN, f32::INFINITY, 2048.5];
        let counts = round_to_fp16_in_place(&mut values);
        assert_eq!(
            counts,
            Fp16Counts {
                n_overflow: 1,
                n_underflow: 1,
                n_nan: 1
            }
        );
        assert_eq!(
            (values[0], values[1], values[2], values[6]),
            (65504.0, f32::INFINITY, 0.0, 2048.0)
        );
    }
}

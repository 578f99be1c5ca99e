//! From a float on the output grid to the byte of its integer, without a conversion that keeps loops from vectorizing.

/// 1.5 * 2^23: a float of this size has no bits below 1.
const SHIFT: f32 = 12_582_912.0;

/// How floats become bytes: `clip(rne(value) + offset, min, max)`, NaN the lowest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToByte {
    low: f32,
    high: f32,
    offset: u32,
}

impl ToByte {
    /// Bounds and offset of 8-bit integers.
    pub(crate) fn new((min, max): (i32, i32), offset: i32) -> Self {
        Self {
            low: (min - offset) as f32,
            high: (max - offset) as f32,
            offset: offset as u32,
        }
    }

    /// The byte. The clip comes first, which is the same because its bounds are integers; then the addition rounds to an
    /// integer, ties to even, and leaves it in the low bits.
    #[inline(always)]
    pub(crate) fn byte(self, value: f32) -> u8 {
        let raised = if value > self.low { value } else { self.low };
        let clipped = if raised < self.high { raised } else { self.high };
        (clipped + SHIFT).to_bits().wrapping_add(self.offset) as u8
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::Requantize;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_policy() {
        let values = (-2100..2100).map(|i| i as f32 * 0.125);
        let ends = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e30,
            -1e30,
            0.5 - f32::EPSILON / 4.0,
        ];
        for value in values.chain(ends) {
            for (range, offset) in [((0, 255), 0), ((0, 255), 77), ((-128, 127), -5), ((-3, 90), 127)] {
                let expected = Requantize::FloatScaleZeroPointAfter.apply(1, value, offset, range);
                let got = ToByte::new(range, offset).byte(value);
                assert_eq!(got, expected as u8, "{value} {range:?} {offset}");
            }
        }
    }
}

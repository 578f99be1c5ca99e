//! Weights of any zero point for kernels that take int8 without one.

/// Packed weights whose sums are `low + 2 * high`.
///
/// `d = weight - zero_point` is one int8 where it fits. Where it does not (it has nine bits and a sign), `d = low +
/// 2 * high` with `low` 0 or 1 and `high` an int8. The sums are the same integers either way.
#[derive(Debug)]
pub(super) struct Parts<K> {
    low: K,
    high: Option<K>,
}

impl<K> Parts<K> {
    /// Packs the differences; `bound` says how large the sums of a packed weight can be. `None` when a sum could leave
    /// int32.
    pub(super) fn new(
        differences: &[i16],
        bias: Option<&[i32]>,
        pack: impl Fn(&[i8], Option<&[i32]>) -> K,
        bound: impl Fn(&K) -> i64,
    ) -> Option<Self> {
        let narrow = |map: fn(i16) -> i16| -> Option<Vec<i8>> {
            differences.iter().map(|&d| i8::try_from(map(d)).ok()).collect()
        };
        let parts = match narrow(|d| d) {
            Some(whole) => Self {
                low: pack(&whole, bias),
                high: None,
            },
            None => Self {
                low: pack(&narrow(|d| d & 1)?, bias),
                high: Some(pack(&narrow(|d| d >> 1)?, None)),
            },
        };
        let largest = parts.high.as_ref().map_or(0, |high| 2 * bound(high)) + bound(&parts.low);
        (largest <= i64::from(i32::MAX)).then_some(parts)
    }

    /// The packed weights, if they are in one part.
    pub(super) fn whole(&self) -> Option<&K> {
        self.high.is_none().then_some(&self.low)
    }

    /// The sums, given those of a packed weight.
    pub(super) fn accumulate(&self, sums: impl Fn(&K) -> Vec<i32>) -> Vec<i32> {
        let mut total = sums(&self.low);
        if let Some(high) = &self.high {
            for (total, high) in total.iter_mut().zip(sums(high)) {
                *total += 2 * high;
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use qloupe_kernels::{GemmI8, QuantizedSlice};

    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_number_of_parts() {
        let (x, k) = ([255_u8, 0, 17], 3);
        for (differences, n_parts) in [([-128_i16, 127, 5], 1), ([-255, 255, 128], 2), ([128, 0, 1], 2)] {
            let pack = |w: &[i8], bias: Option<&[i32]>| GemmI8::new(w, k, 1, bias);
            let parts =
                Parts::new(&differences, Some(&[9]), pack, GemmI8::max_abs_accumulator_bound).unwrap();
            assert_eq!(parts.whole().is_some(), n_parts == 1, "{differences:?}");
            let expected = 9 + x
                .iter()
                .zip(differences)
                .map(|(&x, d)| (i32::from(x) - 3) * i32::from(d))
                .sum::<i32>();
            let sums = parts.accumulate(|packed| packed.accumulate(QuantizedSlice::U8(&x), 1, 3));
            assert_eq!(sums, [expected], "{differences:?}");
        }
    }

    #[test]
    fn sums_that_int32_may_not_hold_are_not_packed() {
        let pack = |w: &[i8], bias: Option<&[i32]>| GemmI8::new(w, 1, 1, bias);
        assert!(Parts::new(&[100], Some(&[i32::MAX]), pack, GemmI8::max_abs_accumulator_bound).is_none());
    }
}

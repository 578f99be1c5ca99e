//! Biases from which a zero point of the input is subtracted: `bias - zero_point * sum(weights)`.
//!
//! A convolution is nearly always run with one zero point: its biases are kept.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::buffer::Aligned;

/// Biases in the order of the packed channels.
#[derive(Clone, Debug)]
pub(crate) struct FoldedBias {
    bias: Aligned<i32>,
    /// The sum of the weights of every channel: what a zero point of 1 subtracts.
    weight_sum: Vec<i32>,
    /// The first zero point asked for, and its biases.
    kept: OnceLock<(i32, Aligned<i32>)>,
}

impl FoldedBias {
    pub(crate) fn new(bias: Aligned<i32>, weight_sum: Vec<i32>) -> Self {
        Self {
            bias,
            weight_sum,
            kept: OnceLock::new(),
        }
    }

    /// The biases for a zero point, modulo 2^32.
    pub(crate) fn of(&self, zero_point: i32) -> Cow<'_, [i32]> {
        let (kept, bias) = self.kept.get_or_init(|| (zero_point, self.folded(zero_point)));
        if *kept == zero_point {
            Cow::Borrowed(bias.as_slice())
        } else {
            Cow::Owned(self.folded(zero_point).as_slice().to_vec())
        }
    }

    fn folded(&self, zero_point: i32) -> Aligned<i32> {
        let mut folded = self.bias.clone();
        for (bias, &sum) in folded.as_mut_slice().iter_mut().zip(&self.weight_sum) {
            *bias = bias.wrapping_sub(zero_point.wrapping_mul(sum));
        }
        folded
    }
}

/// Values of channels laid out as packed channels are: groups padded to `per_group`; one value is repeated.
///
/// They are copied only where the layout differs.
pub(crate) fn padded(values: &[f32], oc: usize, group: usize, per_group: usize) -> Cow<'_, [f32]> {
    let own = oc / group;
    if values.len() == oc && own == per_group {
        return Cow::Borrowed(values);
    }
    let mut padded = vec![0.0; per_group * group];
    if own == 0 {
        return Cow::Owned(padded);
    }
    for (g, to) in padded.chunks_exact_mut(per_group).enumerate() {
        if values.len() == 1 {
            to[..own].fill(values[0]);
        } else {
            to[..own].copy_from_slice(&values[g * own..][..own]);
        }
    }
    Cow::Owned(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zero_point_has_its_own_biases() {
        let mut bias = Aligned::zeroed(2);
        bias.as_mut_slice().copy_from_slice(&[10, i32::MIN]);
        let folded = FoldedBias::new(bias, vec![3, 1]);
        for zero_point in [2, 0, 2, -1] {
            let expected = [10 - 3 * zero_point, i32::MIN.wrapping_sub(zero_point)];
            assert_eq!(*folded.of(zero_point), expected, "{zero_point}");
        }
    }

    #[test]
    fn values_are_padded_group_by_group() {
        assert_eq!(
            *padded(&[1.0, 2.0, 3.0, 4.0], 4, 2, 3),
            [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]
        );
        assert_eq!(*padded(&[5.0], 2, 1, 3), [5.0, 5.0, 0.0]);
        assert_eq!(*padded(&[1.0, 2.0], 2, 1, 2), [1.0, 2.0]);
    }
}

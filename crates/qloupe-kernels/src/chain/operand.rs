//! What steps read besides the results of a chain: a tensor that broadcasts to them.

use std::borrow::Cow;

/// Elements of the blocks that steps work on.
pub(crate) const BLOCK: usize = 2048;

/// A broadcast operand of shape `[outer, inner]` for results of shape `[.., outer, middle, inner]`: element `i` of the
/// results meets element `(i / (middle * inner)) % outer * inner + i % inner`.
#[derive(Clone, Debug)]
pub struct Operand<'a> {
    values: Cow<'a, [f32]>,
    outer: usize,
    middle: usize,
    inner: usize,
    /// The values are repeated, so that a block can be read from any position of the first period.
    repeated: bool,
}

impl<'a> Operand<'a> {
    /// An operand of `outer * inner` values, each row of which meets `middle` rows.
    pub fn new(values: &'a [f32], outer: usize, middle: usize, inner: usize) -> Self {
        assert_eq!(values.len(), outer * inner, "length of the operand");
        assert!(!values.is_empty() && middle > 0, "an operand without elements");
        let (outer, middle, inner) = if middle == 1 || outer == 1 {
            (1, 1, outer * inner)
        } else {
            (outer, middle, inner)
        };
        let repeated = outer == 1 && inner < BLOCK;
        let values = if repeated {
            Cow::Owned(repeated_to(inner + BLOCK, values))
        } else {
            Cow::Borrowed(values)
        };
        Self {
            values,
            outer,
            middle,
            inner,
            repeated,
        }
    }

    /// The same elements for as many results.
    pub fn full(values: &'a [f32]) -> Self {
        Self {
            values: Cow::Borrowed(values),
            outer: 1,
            middle: 1,
            inner: values.len(),
            repeated: false,
        }
    }

    /// True for results of `n` elements.
    pub(super) fn fits(&self, n: usize) -> bool {
        n.is_multiple_of(self.outer * self.middle * self.inner)
    }

    /// Elements from `start` on, up to which the operand is read in one piece.
    pub(crate) fn reach(&self, start: usize) -> usize {
        if self.outer == 1 && !self.repeated {
            self.inner - start % self.inner
        } else {
            BLOCK
        }
    }

    /// The operand of the results `start..start + n`, in place or written to `scratch`; `n` is within reach.
    pub(crate) fn block<'s>(&'s self, start: usize, n: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        if self.outer == 1 {
            return &self.values[start % self.inner..][..n];
        }
        let mut at = start;
        let mut left = &mut scratch[..n];
        while !left.is_empty() {
            let row = at / (self.middle * self.inner) % self.outer * self.inner;
            let values = &self.values[row..][..self.inner];
            let n_row = (self.middle * self.inner - at % (self.middle * self.inner)).min(left.len());
            let (now, later) = left.split_at_mut(n_row);
            if let &[value] = values {
                now.fill(value);
            } else {
                repeat(values, at % self.inner, now);
            }
            at += n_row;
            left = later;
        }
        &scratch[..n]
    }
}

/// `values` over and over, `n` of them.
fn repeated_to(n: usize, values: &[f32]) -> Vec<f32> {
    let mut repeated = Vec::with_capacity(n);
    repeated.extend_from_slice(values);
    while repeated.len() < n {
        // Whole periods so far.
        repeated.extend_from_within(..repeated.len().min(n - repeated.len()));
    }
    repeated
}

/// Fills `to` with `values` over and over, from position `first` on.
fn repeat(values: &[f32], first: usize, to: &mut [f32]) {
    let (head, rest) = to.split_at_mut((values.len() - first).min(to.len()));
    head.copy_from_slice(&values[first..][..head.len()]);
    for to in rest.chunks_mut(values.len()) {
        to.copy_from_slice(&values[..to.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_meets_the_right_elements() {
        let n = 24 * 450;
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        for (outer, middle, inner) in [
            (1, 1, 1),
            (1, 450, 24),
            (24, 450, 1),
            (2, 450, 12),
            (6, 3, 2),
            (1, 1, n),
            (1, 2, n / 2),
        ] {
            let operand = Operand::new(&values[..outer * inner], outer, middle, inner);
            assert!(operand.fits(n), "{outer} {middle} {inner}");
            let mut scratch = vec![0.0; BLOCK];
            let mut start = 7;
            while start < n {
                let len = operand.reach(start).min(n - start).min(BLOCK);
                let block = operand.block(start, len, &mut scratch);
                let right = |i: usize| i / (middle * inner) % outer * inner + i % inner;
                let wrong = (0..len).find(|&i| block[i] as usize != right(start + i));
                assert_eq!(wrong, None, "{outer} {middle} {inner} from {start}");
                start += len;
            }
        }
    }
}

//! Sums over pairs of a reference and a tested buffer, from which error metrics are computed.

use crate::QuantizedSlice;
use crate::buffer::with_scratch;
use crate::multiversion::multiversion;
use crate::{Isa, isa};

/// Pairs of a call: the numbers that they stand for fit into the L1 cache.
pub const MAX_PAIRS: usize = 4096;

/// Independent sums: pair `i` goes to sum `i % LANES`.
const LANES: usize = 16;

/// A buffer that is compared with a reference.
#[derive(Clone, Copy, Debug)]
pub enum Tested<'a> {
    /// Real numbers.
    Real(&'a [f32]),
    /// Integers that stand for `(q - zero_point) * scale`.
    Quantized {
        /// The integers.
        q: QuantizedSlice<'a>,
        /// The distance of two real numbers.
        scale: f32,
        /// The integer that stands for 0.
        zero_point: i32,
    },
}

impl Tested<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Quantized { q, .. } => q.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the real numbers.
    pub fn to_real(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "length of the output");
        to_real(isa(), *self, out);
    }

    /// `len` elements from `start` on.
    #[must_use]
    pub fn part(&self, start: usize, len: usize) -> Self {
        match *self {
            Self::Real(values) => Self::Real(&values[start..][..len]),
            Self::Quantized { q, scale, zero_point } => Self::Quantized {
                q: q.part(start, len),
                scale,
                zero_point,
            },
        }
    }
}

/// Sums over pairs (r, t) in f64. Pairs `i` with the same `i % 16` are added in order, then the 16 sums as a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairSums {
    /// What depends on r alone.
    pub reference: ReferenceSums,
    /// Sum of t^2.
    pub test_sq: f64,
    /// Sum of r t.
    pub product: f64,
    /// Sum of (t - r)^2.
    pub error_sq: f64,
    /// Sum of t - r.
    pub error: f64,
    /// The largest |t - r|.
    pub max_abs: f64,
    /// Pairs with r != 0 and t == 0.
    pub n_zeroed: u32,
}

/// The part of [`PairSums`] that is the same for every test.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReferenceSums {
    /// Sum of r^2.
    pub sq: f64,
    /// Elements outside the range.
    pub n_outside: u32,
}

/// The sums of at most [`MAX_PAIRS`] pairs; `None` if a number is NaN or infinite. `range`: what r must be in, or it is
/// counted as outside. `known`: the part of the reference, if another test was compared with it before.
pub fn pair_sums(
    reference: &[f32],
    test: Tested<'_>,
    range: (f32, f32),
    known: Option<ReferenceSums>,
) -> Option<PairSums> {
    of_pairs(isa(), reference, test, range, known)
}

fn of_pairs(
    isa: Isa,
    reference: &[f32],
    test: Tested<'_>,
    range: (f32, f32),
    known: Option<ReferenceSums>,
) -> Option<PairSums> {
    assert_eq!(reference.len(), test.len(), "length of the tested buffer");
    let known = match known {
        Some(known) => known,
        None => reference_sums(isa, reference, range),
    };
    if !known.sq.is_finite() {
        return None;
    }
    let sums = match test {
        Tested::Real(values) => test_sums(isa, reference, values),
        Tested::Quantized { .. } => with_scratch(reference.len(), |real: &mut [f32]| {
            to_real(isa, test, real);
            test_sums(isa, reference, real)
        }),
    };
    // No sum of squares of so few finite numbers is infinite.
    sums.test_sq.is_finite().then_some(PairSums {
        reference: known,
        ..sums
    })
}

fn to_real(isa: Isa, test: Tested<'_>, out: &mut [f32]) {
    match test {
        Tested::Real(values) => out.copy_from_slice(values),
        Tested::Quantized {
            q: QuantizedSlice::U8(q),
            scale,
            zero_point,
        } => dequantized(isa, q, scale, zero_point, out),
        Tested::Quantized {
            q: QuantizedSlice::I8(q),
            scale,
            zero_point,
        } => dequantized(isa, q, scale, zero_point, out),
    }
}

multiversion! {
    fn dequantized [Q: Copy + Into<i32>] (q: &[Q], scale: f32, zero_point: i32, out: &mut [f32]) {
        for (out, &q) in out.iter_mut().zip(q) {
            let q: i32 = q.into();
            *out = (q - zero_point) as f32 * scale;
        }
    }
}

multiversion! {
    fn reference_sums(reference: &[f32], range: (f32, f32)) -> ReferenceSums {
        let (mut sq, mut n_outside) = ([0.0_f64; LANES], [0_u32; LANES]);
        let (chunks, rest) = reference.as_chunks::<LANES>();
        for r in chunks {
            for i in 0..LANES {
                n_outside[i] += u32::from((r[i] < range.0) | (r[i] > range.1));
            }
            for i in 0..LANES {
                let r = f64::from(r[i]);
                sq[i] = r.mul_add(r, sq[i]);
            }
        }
        for (i, &r) in rest.iter().enumerate() {
            n_outside[i] += u32::from((r < range.0) | (r > range.1));
            sq[i] = f64::from(r).mul_add(f64::from(r), sq[i]);
        }
        ReferenceSums {
            sq: tree(sq),
            n_outside: n_outside.iter().sum(),
        }
    }
}

multiversion! {
    /// The sums of a test; those of the reference are 0.
    fn test_sums(reference: &[f32], test: &[f32]) -> PairSums {
        let mut lanes = Lanes::default();
        let (r_chunks, r_rest) = reference.as_chunks::<LANES>();
        let (t_chunks, t_rest) = test.as_chunks::<LANES>();
        for (r, t) in r_chunks.iter().zip(t_chunks) {
            lanes.add(r, t);
        }
        if !r_rest.is_empty() {
            // Pairs of zeros add nothing.
            let (mut r, mut t) = ([0.0; LANES], [0.0; LANES]);
            r[..r_rest.len()].copy_from_slice(r_rest);
            t[..t_rest.len()].copy_from_slice(t_rest);
            lanes.add(&r, &t);
        }
        lanes.finish()
    }
}

#[derive(Default)]
struct Lanes {
    max_abs: [f64; LANES],
    test_sq: [f64; LANES],
    product: [f64; LANES],
    error_sq: [f64; LANES],
    error: [f64; LANES],
    n_zeroed: [u32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, reference: &[f32; LANES], test: &[f32; LANES]) {
        for i in 0..LANES {
            self.n_zeroed[i] += u32::from((reference[i] != 0.0) & (test[i] == 0.0));
        }
        for i in 0..LANES {
            let (r, t) = (f64::from(reference[i]), f64::from(test[i]));
            let error = t - r;
            let size = error.abs();
            self.max_abs[i] = if size > self.max_abs[i] {
                size
            } else {
                self.max_abs[i]
            };
            self.test_sq[i] = t.mul_add(t, self.test_sq[i]);
            self.product[i] = r.mul_add(t, self.product[i]);
            self.error_sq[i] = error.mul_add(error, self.error_sq[i]);
            self.error[i] += error;
        }
    }

    #[inline(always)]
    fn finish(&self) -> PairSums {
        PairSums {
            reference: ReferenceSums::default(),
            test_sq: tree(self.test_sq),
            product: tree(self.product),
            error_sq: tree(self.error_sq),
            error: tree(self.error),
            max_abs: self.max_abs.iter().copied().fold(0.0, f64::max),
            n_zeroed: self.n_zeroed.iter().sum(),
        }
    }
}

#[inline(always)]
fn tree(mut sums: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_and_either_form_gives_the_same_sums() {
        let n = 1003;
        let reference: Vec<f32> = (0..n).map(|i| ((i * 37) % 211) as f32 * 0.11 - 11.0).collect();
        let q: Vec<i8> = (0..n).map(|i| ((i * 91) % 256) as u8 as i8).collect();
        let test = Tested::Quantized {
            q: QuantizedSlice::I8(&q),
            scale: 0.07,
            zero_point: 3,
        };
        let real: Vec<f32> = q.iter().map(|&q| (i32::from(q) - 3) as f32 * 0.07).collect();
        let range = (1.0, 5.0);
        let expected = of_pairs(Isa::Scalar, &reference, Tested::Real(&real), range, None).unwrap();
        let outside = reference.iter().filter(|r| !(1.0..=5.0).contains(*r)).count();
        assert_eq!(expected.reference.n_outside as usize, outside);
        for isa in Isa::available() {
            for test in [test, Tested::Real(&real)] {
                for known in [None, Some(expected.reference)] {
                    let sums = of_pairs(isa, &reference, test, range, known);
                    assert_eq!(sums, Some(expected), "{isa:?}");
                }
            }
        }
        let mut bad = real;
        bad[1000] = f32::NAN;
        assert_eq!(pair_sums(&reference, Tested::Real(&bad), range, None), None);
    }
}

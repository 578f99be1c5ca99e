//! Sums over pairs of a reference and a tested buffer, from which error metrics are computed.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::buffer::with_scratch;
use crate::multiversion::multiversion;
use crate::{Isa, Numbers, isa};

/// Pairs of a call: the numbers that they stand for fit into the L1 cache.
pub const MAX_PAIRS: usize = 4096;

/// Independent sums: pair `i` goes to sum `i % LANES`.
const LANES: usize = 8;

/// Sums over pairs (r, t) in f64. Pairs `i` with the same `i % 8` are added in order, then the 8 sums as a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairSums {
    /// What depends on r alone.
    pub reference: ReferenceSums,
    /// Sum of t^2.
    pub test_sq: f64,
    /// Sum of r t, as `(r^2 + t^2 - (t - r)^2) / 2` of the sums.
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

/// The sums of each test of one reference, of at most [`MAX_PAIRS`] pairs; `None` where a number is NaN or infinite.
/// `range`: what r must be in, or it is counted as outside.
pub fn pair_sums<const N: usize>(
    reference: &[f32],
    tests: [Numbers<'_>; N],
    range: (f32, f32),
) -> [Option<PairSums>; N] {
    of_pairs(isa(), reference, tests, range)
}

fn of_pairs<const N: usize>(
    isa: Isa,
    reference: &[f32],
    tests: [Numbers<'_>; N],
    range: (f32, f32),
) -> [Option<PairSums>; N] {
    for test in &tests {
        assert_eq!(reference.len(), test.len(), "length of the tested buffer");
    }
    let (known, sums) = match isa {
        Isa::Scalar | Isa::Avx2 => each_test(isa, reference, tests, range),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` that reaches a kernel was detected or passed `Isa::require`.
        _ => unsafe { avx512::all_tests(reference, tests, range) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => each_test(isa, reference, tests, range),
    };
    // No sum of squares of so few finite numbers is infinite.
    sums.map(|sums| {
        (known.sq.is_finite() && sums.test_sq.is_finite()).then_some(PairSums {
            reference: known,
            product: (known.sq + sums.test_sq - sums.error_sq) / 2.0,
            ..sums
        })
    })
}

/// The sums one test at a time, in loops that the compiler vectorizes: the specification.
fn each_test<const N: usize>(
    isa: Isa,
    reference: &[f32],
    tests: [Numbers<'_>; N],
    range: (f32, f32),
) -> (ReferenceSums, [PairSums; N]) {
    let sums = tests.map(|test| match test {
        Numbers::Real(values) => test_sums(isa, reference, values),
        Numbers::Quantized { .. } => with_scratch(reference.len(), |real: &mut [f32]| {
            test.to_real_with_isa(isa, real);
            test_sums(isa, reference, real)
        }),
    });
    (reference_sums(isa, reference, range), sums)
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
            self.error_sq[i] = error.mul_add(error, self.error_sq[i]);
            self.error[i] += error;
        }
    }

    #[inline(always)]
    fn finish(&self) -> PairSums {
        PairSums {
            reference: ReferenceSums::default(),
            test_sq: tree(self.test_sq),
            product: 0.0,
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
    use crate::QuantizedSlice;

    #[test]
    fn every_instruction_set_and_either_form_gives_the_same_sums() {
        let n = 1003;
        let reference: Vec<f32> = (0..n).map(|i| ((i * 37) % 211) as f32 * 0.11 - 11.0).collect();
        let q: Vec<i8> = (0..n).map(|i| ((i * 91) % 256) as u8 as i8).collect();
        let test = Numbers::Quantized {
            q: QuantizedSlice::I8(&q),
            scale: 0.07,
            zero_point: 3,
        };
        let bytes: Vec<u8> = q.iter().map(|&q| q.cast_unsigned()).collect();
        let unsigned = Numbers::Quantized {
            q: QuantizedSlice::U8(&bytes),
            scale: 0.11,
            zero_point: 128,
        };
        let real: Vec<f32> = q.iter().map(|&q| (i32::from(q) - 3) as f32 * 0.07).collect();
        let range = (1.0, 5.0);
        let mut bad = real.clone();
        bad[1000] = f32::NAN;
        let of = |isa, n: usize| {
            let tests =
                [test, Numbers::Real(&real), Numbers::Real(&bad), unsigned].map(|test| test.part(0, n));
            let [first, ..] = tests;
            let sums = of_pairs(isa, &reference[..n], tests, range);
            assert_eq!(of_pairs(isa, &reference[..n], [first], range), [sums[0]]);
            sums
        };
        for n in [0, 1, 15, 16, 17, 1003] {
            let expected = of(Isa::Scalar, n);
            let outside = reference[..n]
                .iter()
                .filter(|r| !(1.0..=5.0).contains(*r))
                .count();
            assert_eq!(expected[0].unwrap().reference.n_outside as usize, outside);
            assert_eq!(expected[0], expected[1], "either form");
            assert_eq!(expected[2].is_none(), n > 1000, "{n} elements with a NaN at 1000");
            for isa in Isa::available() {
                assert_eq!(of(isa, n), expected, "{isa:?} {n}");
            }
        }
    }

    #[test]
    fn an_unusual_reference_has_no_sums() {
        let reference = [1.0, f32::INFINITY];
        for isa in Isa::available() {
            let sums = of_pairs(isa, &reference, [Numbers::Real(&[1.0, 2.0])], (0.0, 1.0));
            assert_eq!(sums, [None], "{isa:?}");
        }
    }
}

//! The one pass over a pair of tensors from which every metric is computed.

use qloupe_tensor::{Granularity, QuantParams};
use rayon::prelude::*;

use super::sum::Sum;

/// Elements of a block. Sums run over whole blocks, which are combined in order: the result does not depend on threads.
const BLOCK: usize = 4096;

/// Partial sums of a block, so that the compiler can use vector registers without changing the order of additions.
const LANES: usize = 4;

/// Elements from which it pays to share blocks between threads.
const PARALLEL: usize = 32 * BLOCK;

/// The real numbers that a quantized value can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Representable {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The distance from one to the next.
    pub step: f64,
}

impl Representable {
    /// What a value with one scale can hold; `None` if it has several.
    pub fn of_params(params: &QuantParams) -> Option<Self> {
        if params.granularity() != Granularity::PerTensor {
            return None;
        }
        let (min, max) = params.real_range(0);
        Some(Self {
            min,
            max,
            step: f64::from(params.scale()[0]),
        })
    }
}

/// Two tensors that cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("number of elements differs from the reference, expected {expected}, got {got}")]
pub struct LengthError {
    /// Elements of the reference.
    pub expected: usize,
    /// Elements of the test.
    pub got: usize,
}

/// Sums over pairs of elements (r, t) of a reference and a tested tensor.
///
/// # Edge cases
/// A pair with a NaN is counted in `n_nan` and is in no sum. A pair with an infinite reference is counted in
/// `n_infinite` and is in no sum: no finite test could be near it. An infinite test beside a finite reference is
/// counted in `n_infinite` and is an infinite error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub(super) n: u64,
    pub(super) n_nan: u64,
    pub(super) n_infinite: u64,
    pub(super) n_clipped: u64,
    /// Pairs that were measured with a representable range.
    pub(super) n_ranged: u64,
    /// Pairs with r != 0 and t == 0.
    pub(super) n_zeroed: u64,
    pub(super) max_abs: f64,
    reference_sq: Sum,
    test_sq: Sum,
    product: Sum,
    error_sq: Sum,
    error: Sum,
}

impl Moments {
    /// Reads both tensors once.
    ///
    /// # Errors
    /// [`LengthError`] if they differ in length.
    pub fn measure(
        reference: &[f32],
        test: &[f32],
        representable: Option<Representable>,
    ) -> Result<Self, LengthError> {
        if reference.len() != test.len() {
            return Err(LengthError {
                expected: reference.len(),
                got: test.len(),
            });
        }
        let mut moments = Self::default();
        if reference.len() >= PARALLEL {
            let blocks: Vec<Self> = reference
                .par_chunks(BLOCK)
                .zip(test.par_chunks(BLOCK))
                .map(|(r, t)| Self::of_block(r, t, representable))
                .collect();
            blocks.iter().for_each(|block| moments.merge(block));
        } else {
            for (r, t) in reference.chunks(BLOCK).zip(test.chunks(BLOCK)) {
                moments.merge(&Self::of_block(r, t, representable));
            }
        }
        Ok(moments)
    }

    /// Adds the pairs of another measurement.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.n_nan += other.n_nan;
        self.n_infinite += other.n_infinite;
        self.n_clipped += other.n_clipped;
        self.n_ranged += other.n_ranged;
        self.n_zeroed += other.n_zeroed;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.reference_sq.merge(other.reference_sq);
        self.test_sq.merge(other.test_sq);
        self.product.merge(other.product);
        self.error_sq.merge(other.error_sq);
        self.error.merge(other.error);
    }

    /// Pairs that are compared.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Pairs with a NaN.
    pub fn n_nan(&self) -> u64 {
        self.n_nan
    }

    /// Pairs with an infinity and no NaN.
    pub fn n_infinite(&self) -> u64 {
        self.n_infinite
    }

    /// Sum of r^2.
    pub fn reference_sq(&self) -> f64 {
        self.reference_sq.get()
    }

    /// Sum of t^2.
    pub fn test_sq(&self) -> f64 {
        self.test_sq.get()
    }

    /// Sum of r t.
    pub fn product(&self) -> f64 {
        self.product.get()
    }

    /// Sum of (t - r)^2.
    pub fn error_sq(&self) -> f64 {
        self.error_sq.get()
    }

    /// Sum of t - r.
    pub fn error(&self) -> f64 {
        self.error.get()
    }

    /// `sum` for each pair; 0 if there are no pairs.
    pub(super) fn per_element(&self, sum: f64) -> f64 {
        sum / self.n.max(1) as f64
    }

    fn of_block(reference: &[f32], test: &[f32], representable: Option<Representable>) -> Self {
        let unusual: u32 = reference
            .iter()
            .zip(test)
            .map(|(r, t)| u32::from(!r.is_finite()) | u32::from(!t.is_finite()))
            .sum();
        if unusual == 0 {
            return Self::of_usual_block(reference, test, representable);
        }
        let (mut n_nan, mut n_infinite) = (0, 0);
        let (mut kept_reference, mut kept_test) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut n_kept = 0;
        for (&r, &t) in reference.iter().zip(test) {
            let nan = r.is_nan() || t.is_nan();
            n_nan += u64::from(nan);
            n_infinite += u64::from(!nan && (r.is_infinite() || t.is_infinite()));
            if r.is_finite() && !nan {
                (kept_reference[n_kept], kept_test[n_kept]) = (r, t);
                n_kept += 1;
            }
        }
        let kept = Self::of_usual_block(&kept_reference[..n_kept], &kept_test[..n_kept], representable);
        Self {
            n_nan,
            n_infinite,
            ..kept
        }
    }

    fn of_usual_block(reference: &[f32], test: &[f32], representable: Option<Representable>) -> Self {
        let (min, max) = representable.map_or((f32::NEG_INFINITY, f32::INFINITY), |range| {
            let half = range.step / 2.0;
            ((range.min - half) as f32, (range.max + half) as f32)
        });
        let mut lanes = Lanes::default();
        let (reference_chunks, reference_rest) = reference.as_chunks::<LANES>();
        let (test_chunks, test_rest) = test.as_chunks::<LANES>();
        for (r, t) in reference_chunks.iter().zip(test_chunks) {
            for lane in 0..LANES {
                lanes.add(lane, r[lane], t[lane]);
            }
        }
        for (lane, (&r, &t)) in reference_rest.iter().zip(test_rest).enumerate() {
            lanes.add(lane, r, t);
        }
        let count = |wanted: &dyn Fn(f32, f32) -> bool| -> u64 {
            let n: u32 = reference
                .iter()
                .zip(test)
                .map(|(&r, &t)| u32::from(wanted(r, t)))
                .sum();
            u64::from(n)
        };
        let n = reference.len() as u64;
        Self {
            n,
            n_nan: 0,
            n_infinite: 0,
            n_clipped: count(&|r, _| (r < min) | (r > max)),
            n_ranged: if representable.is_some() { n } else { 0 },
            n_zeroed: count(&|r, t| (r != 0.0) & (t == 0.0)),
            max_abs: lanes.max_abs.into_iter().fold(0.0, f64::max),
            reference_sq: total(lanes.reference_sq),
            test_sq: total(lanes.test_sq),
            product: total(lanes.product),
            error_sq: total(lanes.error_sq),
            error: total(lanes.error),
        }
    }
}

#[derive(Default)]
struct Lanes {
    max_abs: [f64; LANES],
    reference_sq: [f64; LANES],
    test_sq: [f64; LANES],
    product: [f64; LANES],
    error_sq: [f64; LANES],
    error: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, lane: usize, r: f32, t: f32) {
        let (r, t) = (f64::from(r), f64::from(t));
        let error = t - r;
        let size = error.abs();
        if size > self.max_abs[lane] {
            self.max_abs[lane] = size;
        }
        self.reference_sq[lane] += r * r;
        self.test_sq[lane] += t * t;
        self.product[lane] += r * t;
        self.error_sq[lane] += error * error;
        self.error[lane] += error;
    }
}

fn total(lanes: [f64; LANES]) -> Sum {
    let mut sum = Sum::default();
    lanes.into_iter().for_each(|lane| sum.add(lane));
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_pair_is_counted_where_it_belongs() {
        const NAN: f32 = f32::NAN;
        const INF: f32 = f32::INFINITY;
        let range = Representable {
            min: -1.0,
            max: 1.0,
            step: 0.5,
        };
        let reference = [1.0, 1.25, 1.3, -1.3, 0.1, NAN, INF, 2.0];
        let test = [1.0, 1.0, 1.0, -1.0, 0.0, 0.0, INF, INF];
        let moments = Moments::measure(&reference, &test, Some(range)).unwrap();
        assert_eq!((moments.n, moments.n_nan, moments.n_infinite), (6, 1, 2));
        assert_eq!((moments.n_clipped, moments.n_zeroed, moments.n_ranged), (3, 1, 6));
        assert!(moments.max_abs.is_infinite(), "{moments:?}");
    }

    #[test]
    fn different_lengths_are_refused() {
        let error = Moments::measure(&[1.0, 2.0], &[1.0], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "number of elements differs from the reference, expected 2, got 1"
        );
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let wave = |k: f64| -> Vec<f32> { (0..PARALLEL + 5).map(|i| (i as f64 * k).sin() as f32).collect() };
        let (reference, test) = (wave(0.37), wave(0.371));
        let with = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(n_threads)
                .build()
                .unwrap();
            pool.install(|| Moments::measure(&reference, &test, None).unwrap())
        };
        let one = with(1);
        assert_eq!(one, with(3));
        let mut serial = Moments::default();
        for (r, t) in reference.chunks(BLOCK).zip(test.chunks(BLOCK)) {
            serial.merge(&Moments::measure(r, t, None).unwrap());
        }
        assert_eq!(one, serial);
    }

    proptest! {
        #[test]
        fn the_sums_are_those_of_a_plain_loop(
            pairs in proptest::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 0..9000)
        ) {
            const TOLERANCE: f64 = 1e-12;
            let (reference, test): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let moments = Moments::measure(&reference, &test, None).unwrap();
            let wide = || pairs.iter().map(|&(r, t)| (f64::from(r), f64::from(t)));
            let size: f64 = wide().map(|(r, t)| r * r + t * t).sum();
            for (got, expected) in [
                (moments.reference_sq(), wide().map(|(r, _)| r * r).sum::<f64>()),
                (moments.test_sq(), wide().map(|(_, t)| t * t).sum()),
                (moments.product(), wide().map(|(r, t)| r * t).sum()),
                (moments.error_sq(), wide().map(|(r, t)| (t - r) * (t - r)).sum()),
            ] {
                prop_assert!((got - expected).abs() <= TOLERANCE * size, "{got} {expected}");
            }
        }
    }
}

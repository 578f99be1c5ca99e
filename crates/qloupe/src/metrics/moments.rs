//! The one pass over a pair of tensors from which every metric is computed.

use qloupe_kernels::{MAX_PAIRS, Numbers, PairSums, pair_sums};
use qloupe_tensor::{Granularity, QuantParams};
use rayon::prelude::*;

use super::sum::Sum;

/// Elements of a block. Sums run over whole blocks, which are combined in order: the result does not depend on threads.
const BLOCK: usize = MAX_PAIRS;

/// Elements from which it pays to share blocks between threads.
const PARALLEL: usize = 16 * BLOCK;

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
    /// Takes over how many elements lie outside what can be held.
    pub(crate) fn take_clipping(&mut self, other: &Self) {
        (self.n_clipped, self.n_ranged) = (other.n_clipped, other.n_ranged);
    }

    /// Reads both tensors once.
    ///
    /// # Errors
    /// [`LengthError`] if they differ in length.
    pub fn measure(
        reference: &[f32],
        test: &[f32],
        representable: Option<Representable>,
    ) -> Result<Self, LengthError> {
        let measured = Self::measure_all(reference, &[Numbers::Real(test)], representable)?;
        Ok(measured[0])
    }

    /// [`Moments::measure`] of several tests of one reference, in whichever form they are stored.
    ///
    /// # Errors
    /// [`LengthError`] if they differ in length.
    pub fn measure_all(
        reference: &[f32],
        tests: &[Numbers<'_>],
        representable: Option<Representable>,
    ) -> Result<Vec<Self>, LengthError> {
        if let Some(test) = tests.iter().find(|test| test.len() != reference.len()) {
            return Err(LengthError {
                expected: reference.len(),
                got: test.len(),
            });
        }
        let mut moments = vec![Self::default(); tests.len()];
        for (tests, moments) in tests.chunks(3).zip(moments.chunks_mut(3)) {
            match *tests {
                [a, b, c] => Self::add_tests(moments, reference, [a, b, c], representable),
                [a, b] => Self::add_tests(moments, reference, [a, b], representable),
                _ => Self::add_tests(moments, reference, [tests[0]], representable),
            }
        }
        Ok(moments)
    }

    fn add_tests<const N: usize>(
        moments: &mut [Self],
        reference: &[f32],
        tests: [Numbers<'_>; N],
        representable: Option<Representable>,
    ) {
        let add_block = |moments: &mut [Self], idx: usize| {
            let start = idx * BLOCK;
            let len = BLOCK.min(reference.len() - start);
            let tests = tests.map(|test| test.part(start, len));
            Self::add_block(moments, &reference[start..][..len], tests, representable);
        };
        let n_blocks = reference.len().div_ceil(BLOCK);
        if reference.len() * N >= PARALLEL && rayon::current_num_threads() > 1 {
            let of_block = |idx| {
                let mut block = [Self::default(); N];
                add_block(&mut block, idx);
                block
            };
            let blocks: Vec<[Self; N]> = (0..n_blocks).into_par_iter().map(of_block).collect();
            for block in &blocks {
                let pairs = moments.iter_mut().zip(block);
                pairs.for_each(|(moments, block)| moments.merge(block));
            }
        } else {
            (0..n_blocks).for_each(|idx| add_block(moments, idx));
        }
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

    fn add_block<const N: usize>(
        moments: &mut [Self],
        reference: &[f32],
        tests: [Numbers<'_>; N],
        representable: Option<Representable>,
    ) {
        let range = representable.map_or((f32::NEG_INFINITY, f32::INFINITY), |range| {
            let half = range.step / 2.0;
            ((range.min - half) as f32, (range.max + half) as f32)
        });
        let is_ranged = representable.is_some();
        let sums = pair_sums(reference, tests, range);
        for ((moments, sums), test) in moments.iter_mut().zip(&sums).zip(&tests) {
            moments.merge(&match (sums, test) {
                (Some(sums), _) => Self::of_sums(sums, reference.len(), is_ranged),
                (None, Numbers::Real(test)) => Self::of_unusual_block(reference, test, range, is_ranged),
                (None, Numbers::Quantized { .. }) => {
                    // The reference is unusual: quantized numbers are finite.
                    let mut real = [0.0; BLOCK];
                    let real = &mut real[..reference.len()];
                    test.to_real(real);
                    Self::of_unusual_block(reference, real, range, is_ranged)
                }
            });
        }
    }

    /// A block in which some number is NaN or infinite.
    fn of_unusual_block(reference: &[f32], test: &[f32], range: (f32, f32), is_ranged: bool) -> Self {
        let (mut n_nan, mut n_infinite) = (0, 0);
        let (mut kept_reference, mut kept_test) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut n_kept = 0;
        let mut is_infinite = false;
        for (&r, &t) in reference.iter().zip(test) {
            let nan = r.is_nan() || t.is_nan();
            n_nan += u64::from(nan);
            n_infinite += u64::from(!nan && (r.is_infinite() || t.is_infinite()));
            if r.is_finite() && !nan {
                is_infinite |= t.is_infinite();
                (kept_reference[n_kept], kept_test[n_kept]) = (r, t);
                n_kept += 1;
            }
        }
        if is_infinite {
            // Infinite tests become the error that they are, one by one.
            let mut moments = Self {
                n_nan,
                n_infinite,
                ..Self::default()
            };
            for (r, t) in kept_reference[..n_kept].iter().zip(&kept_test) {
                moments.merge(&Self::of_pair(*r, *t, range, is_ranged));
            }
            return moments;
        }
        let test = Numbers::Real(&kept_test[..n_kept]);
        let [kept] = pair_sums(&kept_reference[..n_kept], [test], range);
        Self {
            n_nan,
            n_infinite,
            ..kept.map_or_else(Self::default, |sums| Self::of_sums(&sums, n_kept, is_ranged))
        }
    }

    fn of_sums(sums: &PairSums, n: usize, is_ranged: bool) -> Self {
        let n = n as u64;
        Self {
            n,
            n_nan: 0,
            n_infinite: 0,
            n_clipped: u64::from(sums.reference.n_outside),
            n_ranged: if is_ranged { n } else { 0 },
            n_zeroed: u64::from(sums.n_zeroed),
            max_abs: sums.max_abs,
            reference_sq: Sum::of(sums.reference.sq),
            test_sq: Sum::of(sums.test_sq),
            product: Sum::of(sums.product),
            error_sq: Sum::of(sums.error_sq),
            error: Sum::of(sums.error),
        }
    }

    fn of_pair(r: f32, t: f32, (low, high): (f32, f32), is_ranged: bool) -> Self {
        let (wide_r, wide_t) = (f64::from(r), f64::from(t));
        let error = wide_t - wide_r;
        Self {
            n: 1,
            n_nan: 0,
            n_infinite: 0,
            n_clipped: u64::from(r < low || r > high),
            n_ranged: u64::from(is_ranged),
            n_zeroed: u64::from(r != 0.0 && t == 0.0),
            max_abs: error.abs(),
            reference_sq: Sum::of(wide_r * wide_r),
            test_sq: Sum::of(wide_t * wide_t),
            product: Sum::of(wide_r * wide_t),
            error_sq: Sum::of(error * error),
            error: Sum::of(error),
        }
    }
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

//! Softmax of 8-bit values by a table of exponentials and integer division.

use crate::lookup::map_bytes;
use crate::multiversion::multiversion;
use crate::{Isa, QuantizedSlice, QuantizedSliceMut, isa, nchw_to_nhwc, nhwc_to_nchw, parallel};

/// Below this number of steps every numerator is an integer that f64 holds, and its quotients round down exactly.
const MAX_STEPS: u64 = 1 << 28;

/// Softmax by whole numbers: `q = clip(floor((e * steps + floor(sum / 2)) / sum) + zero_point)`, where `e` is the entry
/// of the distance to the largest element and `sum` the sum of them.
#[derive(Clone, Debug)]
pub struct SoftmaxQuantized {
    exponentials: [u32; 256],
    /// The bytes of the exponentials: all lowest ones, all second ones, and so on.
    planes: [[u8; 256]; 3],
    steps: u64,
    zero_point: i32,
    range: (i32, i32),
}

impl SoftmaxQuantized {
    /// `exponentials`: for each distance to the largest element, below 2^24; that of 0 is not 0. `steps`: 1 over the
    /// scale of the output, as a whole number.
    pub fn new(exponentials: [u32; 256], steps: u64, zero_point: i32, range: (i32, i32)) -> Self {
        assert!(
            exponentials[0] > 0 && exponentials.iter().all(|&e| e < 1 << 24),
            "an exponential is outside 24 bits"
        );
        let plane = |idx: usize| std::array::from_fn(|i| exponentials[i].to_le_bytes()[idx]);
        Self {
            planes: [plane(0), plane(1), plane(2)],
            exponentials,
            steps,
            zero_point,
            range,
        }
    }

    /// One row of bytes, in integers: the specification of [`SoftmaxQuantized::run`].
    fn row_of_integers(&self, x: &[u8], flip: u8, out: &mut [u8]) {
        let largest = x.iter().map(|&b| b ^ flip).max().unwrap_or(0);
        let exponential = |b: u8| u128::from(self.exponentials[usize::from(largest - (b ^ flip))]);
        let sum: u128 = x.iter().map(|&b| exponential(b)).sum();
        for (q, &b) in out.iter_mut().zip(x) {
            let share = (exponential(b) * u128::from(self.steps) + sum / 2) / sum;
            let shifted = i64::try_from(share)
                .unwrap_or(i64::MAX)
                .saturating_add(i64::from(self.zero_point));
            *q = shifted.max(i64::from(self.range.0)).min(i64::from(self.range.1)) as u8;
        }
    }

    /// Softmax of x `[outer, n, inner]` along n.
    pub fn run(&self, x: QuantizedSlice<'_>, n: usize, inner: usize, out: QuantizedSliceMut<'_>) {
        self.run_with_isa(isa(), x, n, inner, out);
    }

    /// [`SoftmaxQuantized::run`] for one instruction set, to compare them; the plain one is the specification.
    #[doc(hidden)]
    pub fn run_with_isa(
        &self,
        isa: Isa,
        x: QuantizedSlice<'_>,
        n: usize,
        inner: usize,
        out: QuantizedSliceMut<'_>,
    ) {
        isa.require();
        assert_eq!(x.len(), out.len(), "length of the output");
        let (flip, x, out) = (x.flip(), x.bytes(), out.bytes_mut());
        if x.is_empty() {
            return;
        }
        let outer = x.len() / (n * inner);
        assert_eq!(outer * n * inner, x.len(), "length of the input");
        if inner > 1 {
            let mut rows = vec![0; x.len()];
            nchw_to_nhwc(x, outer, n, inner, &mut rows);
            let mut shares = vec![0; x.len()];
            self.rows(isa, &rows, flip, n, &mut shares);
            nhwc_to_nchw(&shares, outer, n, inner, out);
        } else {
            self.rows(isa, x, flip, n, out);
        }
    }

    fn rows(&self, isa: Isa, x: &[u8], flip: u8, n: usize, out: &mut [u8]) {
        let exact = self.steps < MAX_STEPS && isa != Isa::Scalar;
        parallel::zip_rows(x, n, out, n, |_, x, out| {
            for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                if exact {
                    self.row(isa, x, flip, out);
                } else {
                    self.row_of_integers(x, flip, out);
                }
            }
        });
    }

    fn row(&self, isa: Isa, x: &[u8], flip: u8, out: &mut [u8]) {
        if x.len() <= SHORT {
            short_row(isa, self, x, flip, out);
            return;
        }
        let (smallest, largest) = extremes(isa, x, flip);
        let share = Share::new(self, self.sum(isa, x, flip, largest));
        let n_levels = usize::from(largest - smallest) + 1;
        if n_levels < x.len() {
            let mut shares = [0; 256];
            divide_each(
                isa,
                &self.exponentials[..n_levels],
                &share,
                &mut shares[..n_levels],
            );
            let mut table = [0; 256];
            for (distance, &q) in shares[..n_levels].iter().enumerate() {
                table[(usize::from(largest) - distance) ^ usize::from(flip)] = q;
            }
            map_bytes(isa, x, &table, out);
            return;
        }
        // No row of more than 256 elements has as many levels.
        let mut exponentials = [0; 256];
        for (e, &b) in exponentials.iter_mut().zip(x) {
            *e = self.exponentials[usize::from(largest - (b ^ flip))];
        }
        divide_each(isa, &exponentials[..x.len()], &share, out);
    }

    fn sum(&self, isa: Isa, x: &[u8], flip: u8, largest: u8) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx512 && std::arch::is_x86_feature_detected!("avx512vbmi") {
            // SAFETY: the instruction sets are those of the machine.
            return unsafe { sum_of_planes(&self.planes, x, flip, largest) };
        }
        let _ = (isa, &self.planes);
        let exponential = |&b: &u8| u64::from(self.exponentials[usize::from(largest - (b ^ flip))]);
        x.iter().map(exponential).sum()
    }
}

/// What turns an exponential into a share.
struct Share {
    steps: f64,
    half: f64,
    sum: f64,
    zero_point: i32,
    range: (i32, i32),
}

impl Share {
    #[inline(always)]
    fn new(softmax: &SoftmaxQuantized, sum: u64) -> Self {
        Self {
            steps: softmax.steps as f64,
            half: (sum / 2) as f64,
            sum: sum as f64,
            zero_point: softmax.zero_point,
            range: softmax.range,
        }
    }

    /// The numerator is exact. A quotient of integers below 2^53 rounds to an integer only if it is that integer, so that
    /// its whole part is that of the integer division.
    #[inline(always)]
    fn divide(&self, exponential: u32) -> u8 {
        /// Larger shares are beyond every range.
        const MOST: f64 = (1 << 30) as f64;
        let quotient = (f64::from(exponential as i32) * self.steps + self.half) / self.sum;
        let bounded = if quotient < MOST { quotient } else { MOST };
        // SAFETY: the value is between 0 and 2^30.
        let whole: i32 = unsafe { bounded.to_int_unchecked() };
        (whole + self.zero_point).max(self.range.0).min(self.range.1) as u8
    }
}

multiversion! {
    fn divide_each(exponentials: &[u32], share: &Share, out: &mut [u8]) {
        for (q, &e) in out.iter_mut().zip(exponentials) {
            *q = share.divide(e);
        }
    }
}

/// Rows of at most this many elements are divided element by element.
const SHORT: usize = 32;

multiversion! {
    fn short_row(softmax: &SoftmaxQuantized, x: &[u8], flip: u8, out: &mut [u8]) {
        let largest = x.iter().fold(0, |largest, &b| (b ^ flip).max(largest));
        let mut exponentials = [0; SHORT];
        let mut sum = 0;
        for (e, &b) in exponentials.iter_mut().zip(x) {
            *e = softmax.exponentials[usize::from(largest - (b ^ flip))];
            sum += u64::from(*e);
        }
        let share = Share::new(softmax, sum);
        for (shares, e) in out.chunks_mut(16).zip(exponentials.chunks_exact(16)) {
            let all: [u8; 16] = std::array::from_fn(|i| share.divide(e[i]));
            shares.copy_from_slice(&all[..shares.len()]);
        }
    }
}

multiversion! {
    fn extremes(x: &[u8], flip: u8) -> (u8, u8) {
        let (mut smallest, mut largest) = (255, 0);
        for &b in x {
            smallest = (b ^ flip).min(smallest);
            largest = (b ^ flip).max(largest);
        }
        (smallest, largest)
    }
}

/// The sum over the distances to `largest` of a number whose bytes are in planes.
///
/// # Safety
/// The machine has AVX-512 BW and VBMI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
unsafe fn sum_of_planes(planes: &[[u8; 256]; 3], x: &[u8], flip: u8, largest: u8) -> u64 {
    use std::arch::x86_64::*;

    // SAFETY: every load is inside its plane, or of the bytes of x that are left.
    unsafe {
        let part = |plane: usize, i: usize| _mm512_loadu_si512(planes[plane].as_ptr().add(64 * i).cast());
        let tables: [[__m512i; 4]; 3] = std::array::from_fn(|plane| std::array::from_fn(|i| part(plane, i)));
        let (flips, highest) = (_mm512_set1_epi8(flip as i8), _mm512_set1_epi8(largest as i8));
        let mut sums = [_mm512_setzero_si512(); 3];
        for x in x.chunks(64) {
            let taken = u64::MAX >> (64 - x.len());
            let bytes = _mm512_maskz_loadu_epi8(taken, x.as_ptr().cast());
            let distance = _mm512_sub_epi8(highest, _mm512_xor_si512(bytes, flips));
            let far = _mm512_movepi8_mask(distance);
            for (sum, [t0, t1, t2, t3]) in sums.iter_mut().zip(tables) {
                let near_half = _mm512_maskz_permutex2var_epi8(taken & !far, t0, distance, t1);
                let far_half = _mm512_maskz_permutex2var_epi8(taken & far, t2, distance, t3);
                let both = _mm512_or_si512(near_half, far_half);
                *sum = _mm512_add_epi64(*sum, _mm512_sad_epu8(both, _mm512_setzero_si512()));
            }
        }
        let [low, middle, high] = sums.map(|sum| _mm512_reduce_add_epi64(sum) as u64);
        low + (middle << 8) + (high << 16)
    }
}

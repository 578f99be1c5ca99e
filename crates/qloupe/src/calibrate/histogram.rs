//! A histogram whose bins are the same for every value of every network, so that two of them merge exactly.
//!
//! A bin is a sign, a power of two and the upper bits of the mantissa: 1.6% wide at most, from 2^-36 to 2^28. No range
//! has to be known before the first sample, and the bins are finest where a small scale needs them.

use qloupe_tensor::Range;

/// Bits of the mantissa that tell bins of one power of two apart.
const MANTISSA_BITS: u32 = 6;
/// The exponent (with the bias of float32) of the first bin; smaller magnitudes count as 0.
const FIRST_EXPONENT: u32 = 127 - 36;
/// Powers of two with bins; larger magnitudes are counted in the last bin.
const N_EXPONENTS: u32 = 64;
const SHIFT: u32 = 23 - MANTISSA_BITS;
const N_BINS: usize = (N_EXPONENTS << MANTISSA_BITS) as usize;

/// Counts of finite elements by magnitude and sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Elements that count as 0.
    n_zero: u64,
    /// Bins of positive elements, empty until there are any.
    positive: Vec<u64>,
    /// Bins of the magnitudes of negative elements, as above.
    negative: Vec<u64>,
}

/// One bin as a point: where its elements are taken to lie, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The real value.
    pub value: f64,
    /// The number of elements.
    pub count: f64,
}

impl Histogram {
    /// Counts every `stride`-th element.
    pub fn add(&mut self, values: &[f32], stride: usize) {
        if self.positive.is_empty() {
            self.positive = vec![0; N_BINS];
        }
        let has_negative = |values: &[f32]| values.iter().step_by(stride).any(|v| *v < 0.0);
        if self.negative.is_empty() && has_negative(values) {
            self.negative = vec![0; N_BINS];
        }
        for value in values.iter().step_by(stride) {
            match bin(value.to_bits()) {
                None => self.n_zero += 1,
                Some(bin) if *value < 0.0 => self.negative[bin] += 1,
                Some(bin) => self.positive[bin] += 1,
            }
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.n_zero += other.n_zero;
        for (own, theirs) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            if own.is_empty() {
                own.clone_from(theirs);
            } else {
                own.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
            }
        }
    }

    /// How many elements were counted.
    pub fn len(&self) -> u64 {
        self.n_zero + self.positive.iter().chain(&self.negative).sum::<u64>()
    }

    /// True when nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bins that hold elements, by ascending value. Elements are taken to lie in the middle of their bin, and inside
    /// `range`, which is that of all elements.
    pub fn points(&self, range: Range) -> Vec<Point> {
        let (min, max) = (f64::from(range.min), f64::from(range.max));
        let point = |sign: f64, (bin, &count): (usize, &u64)| {
            let (low, high) = (lower_edge(bin), lower_edge(bin + 1));
            Point {
                value: (sign * (low + high) / 2.0).clamp(min, max),
                count: count as f64,
            }
        };
        let filled = |bins: &[u64], sign: f64| -> Vec<Point> {
            let bins = bins.iter().enumerate().filter(|(_, count)| **count > 0);
            bins.map(|bin| point(sign, bin)).collect()
        };
        let zero = (self.n_zero > 0).then_some(Point {
            value: 0.0,
            count: self.n_zero as f64,
        });
        let negative = filled(&self.negative, -1.0).into_iter().rev();
        negative.chain(zero).chain(filled(&self.positive, 1.0)).collect()
    }

    /// The counts of bins that hold elements, as `[key, count]`: what a file stores. Keys are those of [`Self::of_pairs`].
    pub fn pairs(&self) -> Vec<[u64; 2]> {
        let zero = (self.n_zero > 0).then_some([0, self.n_zero]);
        let filled = |bins: &[u64], first: usize| -> Vec<[u64; 2]> {
            let bins = bins.iter().enumerate().filter(|(_, count)| **count > 0);
            bins.map(|(bin, &count)| [(first + bin) as u64, count]).collect()
        };
        let positive = filled(&self.positive, 1);
        zero.into_iter()
            .chain(positive)
            .chain(filled(&self.negative, 1 + N_BINS))
            .collect()
    }

    /// The histogram of pairs; `None` for a key that does not exist.
    pub fn of_pairs(pairs: &[[u64; 2]]) -> Option<Self> {
        let mut histogram = Self::default();
        for &[key, count] in pairs {
            let key = usize::try_from(key).ok()?;
            match key {
                0 => histogram.n_zero += count,
                _ if key <= N_BINS => bins_of(&mut histogram.positive)[key - 1] += count,
                _ if key <= 2 * N_BINS => bins_of(&mut histogram.negative)[key - 1 - N_BINS] += count,
                _ => return None,
            }
        }
        bins_of(&mut histogram.positive);
        Some(histogram)
    }
}

fn bins_of(bins: &mut Vec<u64>) -> &mut Vec<u64> {
    bins.resize(N_BINS, 0);
    bins
}

/// The bin of a magnitude; `None` for what counts as 0.
fn bin(bits: u32) -> Option<usize> {
    let key = (bits & 0x7fff_ffff) >> SHIFT;
    let bin = key.checked_sub(FIRST_EXPONENT << MANTISSA_BITS)?;
    Some((bin as usize).min(N_BINS - 1))
}

/// The smallest magnitude of a bin.
fn lower_edge(bin: usize) -> f64 {
    let key = bin as u32 + (FIRST_EXPONENT << MANTISSA_BITS);
    f64::from(f32::from_bits(key << SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_again_within_a_bin() {
        let values = [0.0, -0.0, 1e-30, 0.001, -3.0, 7.5, 7.5, 1e30];
        let mut histogram = Histogram::default();
        histogram.add(&values, 1);
        let points = histogram.points(Range { min: -3.0, max: 1e30 });
        let counts: Vec<f64> = points.iter().map(|p| p.count).collect();
        assert_eq!(counts, [1.0, 3.0, 1.0, 2.0, 1.0]);
        let near = |idx: usize, expected: f64| (points[idx].value - expected).abs() <= expected.abs() / 64.0;
        assert!(
            near(0, -3.0) && points[1].value == 0.0 && near(2, 0.001) && near(3, 7.5),
            "{points:?}"
        );
        assert!(
            points[4].value < 1e30,
            "the last bin holds everything above 2^28: {points:?}"
        );
    }

    #[test]
    fn points_lie_inside_the_range() {
        let mut histogram = Histogram::default();
        histogram.add(&[1.0; 5], 1);
        let points = histogram.points(Range { min: 1.0, max: 1.0 });
        assert_eq!(
            points,
            [Point {
                value: 1.0,
                count: 5.0
            }]
        );
    }

    #[test]
    fn pairs_are_the_histogram() {
        let mut histogram = Histogram::default();
        histogram.add(&[0.0, 1.0, -2.0, 1e9], 1);
        assert_eq!(Histogram::of_pairs(&histogram.pairs()), Some(histogram));
        assert_eq!(Histogram::of_pairs(&[[1 << 20, 1]]), None);
    }
}

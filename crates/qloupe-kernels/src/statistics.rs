//! The range of a buffer.

use crate::multiversion::multiversion;
use crate::{isa, parallel};

/// The range of the finite values of a buffer, and how many are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinMax {
    /// The smallest finite value, never -0; +inf if there is none.
    pub min: f32,
    /// The largest finite value, never -0; -inf if there is none.
    pub max: f32,
    /// Number of NaN.
    pub n_nan: usize,
    /// Number of infinite values.
    pub n_inf: usize,
}

impl MinMax {
    /// The range of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            min: if other.min < self.min { other.min } else { self.min },
            max: if other.max > self.max { other.max } else { self.max },
            n_nan: self.n_nan + other.n_nan,
            n_inf: self.n_inf + other.n_inf,
        }
    }
}

/// The range of `x`.
pub fn min_max(x: &[f32]) -> MinMax {
    let isa = isa();
    let range = parallel::fold_chunks(x, |x| block(isa, x), MinMax::merge);
    // Which of two zeros was met first depends on how the buffer is split.
    MinMax {
        min: range.min + 0.0,
        max: range.max + 0.0,
        ..range
    }
}

/// Independent minima and maxima.
const LANES: usize = 64;

/// The bits of the infinite magnitude; those of NaN are larger.
const INFINITE: u32 = 0x7f80_0000;

multiversion! {
    fn block(x: &[f32]) -> MinMax {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut largest = [0; LANES];
        for x in chunks {
            for i in 0..LANES {
                min[i] = if x[i] < min[i] { x[i] } else { min[i] };
                max[i] = if x[i] > max[i] { x[i] } else { max[i] };
                largest[i] = (x[i].to_bits() & 0x7fff_ffff).max(largest[i]);
            }
        }
        let each = |x: &[f32]| x.iter().fold(NOTHING, |range, &x| range.merge(one(x)));
        // What is not finite is an error of the model, and counted slowly.
        if largest.iter().any(|&bits| bits >= INFINITE) {
            return each(x);
        }
        let range = each(&min).merge(each(&max));
        let range = if chunks.is_empty() { NOTHING } else { range };
        range.merge(each(rest))
    }
}

/// The range of nothing.
const NOTHING: MinMax = MinMax {
    min: f32::INFINITY,
    max: f32::NEG_INFINITY,
    n_nan: 0,
    n_inf: 0,
};

fn one(x: f32) -> MinMax {
    if x.is_finite() {
        return MinMax {
            min: x,
            max: x,
            n_nan: 0,
            n_inf: 0,
        };
    }
    MinMax {
        n_nan: usize::from(x.is_nan()),
        n_inf: usize::from(x.is_infinite()),
        ..NOTHING
    }
}

//! The range of a buffer.

use crate::multiversion::multiversion;
use crate::{isa, parallel};

/// The range of the finite values of a buffer, and how many are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinMax {
    /// The smallest finite value; +inf if there is none.
    pub min: f32,
    /// The largest finite value; -inf if there is none.
    pub max: f32,
    /// Number of NaN.
    pub n_nan: usize,
    /// Number of infinite values.
    pub n_inf: usize,
}

impl MinMax {
    fn merge(self, other: Self) -> Self {
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
    parallel::fold_chunks(x, |x| block(isa, x), MinMax::merge)
}

/// Independent minima, maxima and counts.
const LANES: usize = 32;

multiversion! {
    fn block(x: &[f32]) -> MinMax {
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut n_nan = [0_u32; LANES];
        let mut n_inf = [0_u32; LANES];
        for x in x.chunks(LANES) {
            for (i, &x) in x.iter().enumerate() {
                let finite = x.abs() < f32::INFINITY;
                min[i] = if finite && x < min[i] { x } else { min[i] };
                max[i] = if finite && x > max[i] { x } else { max[i] };
                n_nan[i] += u32::from(x.is_nan());
                n_inf[i] += u32::from(x.abs() == f32::INFINITY);
            }
        }
        let none = MinMax { min: f32::INFINITY, max: f32::NEG_INFINITY, n_nan: 0, n_inf: 0 };
        (0..LANES).fold(none, |all, i| all.merge(MinMax {
            min: min[i],
            max: max[i],
            n_nan: n_nan[i] as usize,
            n_inf: n_inf[i] as usize,
        }))
    }
}

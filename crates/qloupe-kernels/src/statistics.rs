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
const LANES: usize = 16;

multiversion! {
    fn block(x: &[f32]) -> MinMax {
        let mut lanes = Lanes {
            min: [f32::INFINITY; LANES],
            max: [f32::NEG_INFINITY; LANES],
            n_nan: [0; LANES],
            n_inf: [0; LANES],
        };
        let (chunks, rest) = x.as_chunks::<LANES>();
        for x in chunks {
            lanes.add(x);
        }
        let mut counted = lanes.finish();
        for &x in rest {
            counted = counted.merge(one(x));
        }
        counted
    }
}

struct Lanes {
    min: [f32; LANES],
    max: [f32; LANES],
    n_nan: [u32; LANES],
    n_inf: [u32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES]) {
        for i in 0..LANES {
            let x = x[i];
            let finite = x.abs() < f32::INFINITY;
            let (low, high) = (
                if finite { x } else { f32::INFINITY },
                if finite { x } else { f32::NEG_INFINITY },
            );
            self.min[i] = if low < self.min[i] { low } else { self.min[i] };
            self.max[i] = if high > self.max[i] { high } else { self.max[i] };
            self.n_nan[i] += u32::from(x.is_nan());
            self.n_inf[i] += u32::from(x.abs() == f32::INFINITY);
        }
    }

    fn finish(&self) -> MinMax {
        let lane = |i: usize| MinMax {
            min: self.min[i],
            max: self.max[i],
            n_nan: self.n_nan[i] as usize,
            n_inf: self.n_inf[i] as usize,
        };
        (0..LANES).map(lane).fold(NOTHING, MinMax::merge)
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

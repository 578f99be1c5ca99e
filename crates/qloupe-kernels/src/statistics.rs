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
        let mut lanes = Lanes::new();
        let (chunks, rest) = x.as_chunks::<LANES>();
        for x in chunks {
            lanes.add(x);
        }
        if !rest.is_empty() {
            // A number that is seen again changes no range.
            let mut again = [rest[0]; LANES];
            again[..rest.len()].copy_from_slice(rest);
            lanes.add(&again);
        }
        // What is not finite is an error of the model, and counted slowly.
        let each = || x.iter().fold(NOTHING, |range, &x| range.merge(one(x)));
        lanes.finish().unwrap_or_else(each)
    }
}

/// The ranges of elements `i`, `i + LANES` and so on, and the bits of their largest magnitudes.
struct Lanes {
    min: [f32; LANES],
    max: [f32; LANES],
    largest: [u32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn new() -> Self {
        Self {
            min: [f32::INFINITY; LANES],
            max: [f32::NEG_INFINITY; LANES],
            largest: [0; LANES],
        }
    }

    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES]) {
        for (i, &x) in x.iter().enumerate() {
            self.min[i] = if x < self.min[i] { x } else { self.min[i] };
            self.max[i] = if x > self.max[i] { x } else { self.max[i] };
            self.largest[i] = (x.to_bits() & 0x7fff_ffff).max(self.largest[i]);
        }
    }

    /// The range of all; `None` if a number is not finite. Pieces of values are short: this must not take longer than they do.
    #[inline(always)]
    fn finish(mut self) -> Option<MinMax> {
        self.halve::<32>();
        self.halve::<16>();
        self.halve::<8>();
        self.halve::<4>();
        self.halve::<2>();
        self.halve::<1>();
        (self.largest[0] < INFINITE).then_some(MinMax {
            min: self.min[0],
            max: self.max[0],
            ..NOTHING
        })
    }

    /// Merges the lanes from `HALF` on into those before.
    #[inline(always)]
    fn halve<const HALF: usize>(&mut self) {
        for i in 0..HALF {
            let (min, max) = (self.min[i + HALF], self.max[i + HALF]);
            self.min[i] = if min < self.min[i] { min } else { self.min[i] };
            self.max[i] = if max > self.max[i] { max } else { self.max[i] };
            self.largest[i] = self.largest[i].max(self.largest[i + HALF]);
        }
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

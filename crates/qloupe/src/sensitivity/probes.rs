//! Random gradients at the network outputs, and their products with errors.
//!
//! With the Jacobian `J` from a value to the outputs, the noise that an error `e` of the value makes there is `|J e|^2`: the mean
//! of `(J^T v . e)^2` over random signs `v` (Hutchinson's estimator).

use std::collections::BTreeMap;

use qloupe_exec::Stored;
use qloupe_tensor::Tensor;

use super::pairwise::{difference_of, dot};
use crate::Error;
use crate::runner::Named;

/// Random signs at the outputs of a sample, each times the root of how much the squared error of its element counts.
///
/// # Errors
/// Weights that do not fit the outputs.
pub(crate) fn probes(
    weights: &BTreeMap<String, Vec<f64>>,
    golden: &Named,
    n_probes: usize,
    sample_idx: usize,
) -> Result<Vec<Vec<(String, Tensor)>>, Error> {
    let mut probes = vec![Vec::new(); n_probes];
    for (output_idx, (name, y)) in golden.iter().enumerate() {
        let Some(weights) = weights.get(name) else {
            continue;
        };
        for (probe_idx, probe) in probes.iter_mut().enumerate() {
            let mut signs = Signs::new([sample_idx, probe_idx, output_idx]);
            let values = weights.iter().map(|w| signs.next() * w.sqrt() as f32);
            probe.push((name.clone(), Tensor::new(y.shape(), values.collect())?));
        }
    }
    Ok(probes)
}

/// What an error adds to a golden value.
pub(super) fn difference(test: &Stored, golden: &Stored) -> Option<Stored> {
    if test.shape() != golden.shape() {
        return None;
    }
    let (a, b) = (test.physical(), golden.in_layout(test.layout()));
    let difference = difference_of(a.as_slice::<f32>()?, b.as_slice::<f32>()?);
    let tensor = Tensor::new(a.shape(), difference).ok()?;
    Some(Stored::of_call(tensor, test.layout()))
}

/// The sum of the products of all elements.
pub(super) fn product(gradient: &Stored, error: &Stored) -> f64 {
    let gradient = gradient.in_layout(error.layout());
    let (Some(a), Some(b)) = (gradient.as_slice::<f32>(), error.physical().as_slice::<f32>()) else {
        return 0.0;
    };
    dot(a, b)
}

/// Random signs by a linear congruential generator (Knuth, MMIX), the same on every machine.
struct Signs(u64);

impl Signs {
    fn new(seed: [usize; 3]) -> Self {
        let mut signs = Self(0x9E37_79B9_7F4A_7C15);
        for part in seed {
            signs.0 ^= part as u64;
            signs.step();
            signs.step();
        }
        signs
    }

    fn step(&mut self) {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
    }

    fn next(&mut self) -> f32 {
        self.step();
        if self.0 >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_balanced_and_repeatable() {
        let sum = |seed: [usize; 3]| {
            let mut signs = Signs::new(seed);
            (0..10_000).map(|_| signs.next()).sum::<f32>()
        };
        let sums: Vec<f32> = (0..4).map(|probe| sum([1, probe, 0])).collect();
        assert!(
            sums.iter().all(|s| s.abs() < 400.0),
            "four standard deviations: {sums:?}"
        );
        let again: Vec<f32> = (0..4).map(|probe| sum([1, probe, 0])).collect();
        assert_eq!(format!("{sums:?}"), format!("{again:?}"));
    }
}

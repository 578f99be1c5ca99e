//! What float16 makes of numbers: it rounds them, it has none as large, or it has too few digits for numbers as small.

use std::collections::BTreeMap;

use qloupe_tensor::{Tensor, round_to_fp16_in_place};

use super::Origin;

/// The smallest number that float16 has all its digits for (IEEE 754 binary16): below it steps are as large as its own
/// last one.
const MIN_NORMAL: f32 = 6.103_515_6e-5;

/// Why a number is not exact in float16, and the energy of the error.
pub(super) fn loss(real: f32, half: f32) -> (Origin, f64) {
    let lost = if half.is_finite() {
        f64::from(real) - f64::from(half)
    } else {
        f64::from(real)
    };
    (origin_of(real, half), lost * lost)
}

fn origin_of(real: f32, half: f32) -> Origin {
    if half.is_infinite() {
        Origin::Fp16Overflow
    } else if real.abs() < MIN_NORMAL {
        Origin::Fp16Underflow
    } else {
        Origin::Fp16Rounding
    }
}

/// Weights as float16 has them, those elements only that are not exact for one reason.
pub(super) fn split_weights<'a>(
    weights: impl Iterator<Item = (&'a String, Tensor)>,
) -> BTreeMap<Origin, BTreeMap<String, Tensor>> {
    let mut parts: BTreeMap<Origin, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, weight) in weights {
        let Some(values) = weight.as_slice::<f32>() else {
            continue;
        };
        let mut halves = values.to_vec();
        round_to_fp16_in_place(&mut halves);
        let mut changed: BTreeMap<Origin, Vec<f32>> = BTreeMap::new();
        for (idx, (&v, &h)) in values
            .iter()
            .zip(&halves)
            .enumerate()
            .filter(|(_, (v, h))| v.to_bits() != h.to_bits())
        {
            let part = changed.entry(origin_of(v, h)).or_insert_with(|| values.to_vec());
            part[idx] = h;
        }
        for (origin, values) in changed {
            let tensor = Tensor::new(weight.shape(), values).expect("invariant: as many numbers");
            parts.entry(origin).or_default().insert(name.clone(), tensor);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_lost_for_one_reason() {
        let name = "w".to_owned();
        let numbers = [0.1_f32, 70000.0, 3e-8, 3.3e-6, 0.5];
        let weight = Tensor::new(&[5], numbers.to_vec()).unwrap();
        let parts = split_weights([(&name, weight)].into_iter());
        let changed = |origin: Origin| -> Vec<usize> {
            let values = parts[&origin]["w"].as_slice::<f32>().unwrap();
            (0..5)
                .filter(|&i| values[i].to_bits() != numbers[i].to_bits())
                .collect()
        };
        assert_eq!(changed(Origin::Fp16Rounding), [0]);
        assert_eq!(changed(Origin::Fp16Overflow), [1]);
        assert_eq!(changed(Origin::Fp16Underflow), [2, 3]);
        assert_eq!(
            loss(70000.0, f32::INFINITY),
            (Origin::Fp16Overflow, 70000.0_f64.powi(2))
        );
    }
}

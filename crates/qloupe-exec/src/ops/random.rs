//! The random numbers of RandomNormal, RandomUniform, Bernoulli, Multinomial and their kin.
//!
//! Number `i` of a node depends on its seed and `i` only, so that results do not depend on threads. They are not the numbers of
//! another runtime: ONNX names no generator.

use qloupe_ir::Node;

/// SplitMix64, read by position.
///
/// # Source
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014); the finalizer is David Stafford's mix 13.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random {
    seed: u64,
}

impl Random {
    /// The generator of a node: by the bits of the attribute `seed`, or else by the name of the first output, so that two
    /// nodes without a seed give different numbers, and each the same in every run.
    pub(super) fn of(node: &Node) -> Self {
        let seed = match node.float("seed") {
            Some(seed) => u64::from(seed.to_bits()),
            None => fnv1a(node.output(0).unwrap_or("")),
        };
        Self { seed }
    }

    /// 64 random bits.
    pub(super) fn bits(self, i: usize) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let z = mix(self.seed).wrapping_add(GOLDEN.wrapping_mul((i as u64).wrapping_add(1)));
        mix(z)
    }

    /// A number from `[0, 1)`, a multiple of `2^-53`.
    pub(super) fn uniform(self, i: usize) -> f64 {
        (self.bits(i) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution: Box-Muller on two uniform numbers.
    pub(super) fn normal(self, i: usize) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * i)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * i + 1)).cos()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_paper() {
        // The state of the published generator is the seed itself; ours is mixed first.
        assert_eq!(
            mix(0x9E37_79B9_7F4A_7C15),
            0xE220_A839_7B1D_CDAF,
            "first number of seed 0"
        );
        assert_eq!(Random { seed: 0 }.bits(0), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn seeds_and_names_give_different_numbers_with_the_right_moments() {
        let seeded =
            Node::new("RandomNormal", "", &[], &["y"]).with_attribute("seed", AttributeValue::Float(1.0));
        let named = |name| Random::of(&Node::new("RandomNormal", "", &[], &[name]));
        let first = |random: Random| random.bits(0);
        assert_ne!(first(Random::of(&seeded)), first(named("y")));
        assert_ne!(first(named("x")), first(named("y")));
        const N: usize = 100_000;
        let mean = |f: &dyn Fn(usize) -> f64| (0..N).map(f).sum::<f64>() / N as f64;
        let random = named("y");
        struct Case(&'static str, f64, f64);
        for Case(what, got, expected) in [
            Case("mean of uniform", mean(&|i| random.uniform(i)), 0.5),
            Case(
                "square of uniform",
                mean(&|i| random.uniform(i).powi(2)),
                1.0 / 3.0,
            ),
            Case("mean of normal", mean(&|i| random.normal(i)), 0.0),
            Case("variance of normal", mean(&|i| random.normal(i).powi(2)), 1.0),
        ] {
            const TOLERANCE: f64 = 0.01;
            assert!((got - expected).abs() < TOLERANCE, "{what} is {got}");
        }
    }
}

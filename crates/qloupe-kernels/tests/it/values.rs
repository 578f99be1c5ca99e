//! Repeatable test values and bit comparison.

/// Pseudo-random values in `[-1, 1)`, the same at every run.
pub(crate) fn floats(n: usize, seed: u64) -> Vec<f32> {
    integers(n, seed)
        .map(|bits| (bits >> 40) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

/// Pseudo-random bits, the same at every run (splitmix64).
pub(crate) fn integers(n: usize, seed: u64) -> impl Iterator<Item = u64> {
    (1..=n as u64).map(move |i| {
        let mut z = (seed + 1)
            .wrapping_mul(0x2545_f491_4f6c_dd1d)
            .wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The first position where two buffers differ in a bit; any NaN equals any NaN.
pub(crate) fn first_difference(a: &[f32], b: &[f32]) -> Option<String> {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let differs = |i: &usize| a[*i].to_bits() != b[*i].to_bits() && !(a[*i].is_nan() && b[*i].is_nan());
    (0..a.len())
        .find(differs)
        .map(|i| format!("element {i} of {}: {:?} and {:?}", a.len(), a[i], b[i]))
}

//! Sums over the elements of two values.

/// Sums that run side by side: the order of additions is the same on every machine, and none waits for the one before.
const N_SUMS: usize = 16;

/// The sum of a term of each pair of elements.
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; N_SUMS];
    let (a_chunks, a_rest) = a.as_chunks::<N_SUMS>();
    let (b_chunks, b_rest) = b.as_chunks::<N_SUMS>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += term(f64::from(a), f64::from(b));
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    let rest: f64 = rest.map(|(&a, &b)| term(f64::from(a), f64::from(b))).sum();
    sums.iter().sum::<f64>() + rest
}

/// The differences of the elements.
pub(super) fn difference_of(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for n in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b = vec![2.0_f32; n];
            let expected = (0..n).map(|i| 2.0 * i as f64).sum::<f64>();
            assert_eq!(sum_of_pairs(&a, &b, |a, b| a * b), expected, "{n}");
        }
    }
}
